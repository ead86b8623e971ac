import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from wsx.report import ReportFiles, scatter, write_report
from wsx.report._base import ReportData


def report(path: Path, **changes: object) -> ReportFiles:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 0.9, size=40)
    given: dict[str, object] = {
        "title": "r",
        "texts": [f"a{i}" for i in range(40)],
        "predicted": np.clip(truth + rng.normal(0, 0.05, size=40), 0, 1),
        "truth": truth,
        "provenance": {"seed": 0},
    }
    return write_report(path, **{**given, **changes})  # type: ignore[arg-type]


def n_marked_pixels(content: bytes) -> int:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > 500
        assert image.height > 400
        red, _, blue = (np.asarray(channel, dtype=int) for channel in image.convert("RGB").split())
    return int(np.count_nonzero(blue - red > 60))


def test_pictures_lie_beside_the_page_and_show_marks(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    files = report(tmp_path / "r.html")
    assert dict(mpl.rcParams) == before
    assert {name: path.name for name, path in files.pictures.items()} == {
        "scatter": "r_scatter.png",
        "ranks": "r_ranks.png",
        "histogram": "r_histogram.png",
    }
    for path in files.pictures.values():
        assert n_marked_pixels(path.read_bytes()) > 300


def test_more_archs_leave_more_marks() -> None:
    def marks(n_archs: int) -> int:
        data = ReportData(
            title="",
            texts=[""] * n_archs,
            predicted=np.linspace(0.1, 0.9, n_archs),
            truth=np.linspace(0.1, 0.9, n_archs),
            summary=None,
            params=None,
            flops=None,
            columns={},
            failures=(),
            provenance={},
        )
        picture = scatter.draw(data)
        assert picture is not None
        buffer = io.BytesIO()
        picture.savefig(buffer)
        return n_marked_pixels(buffer.getvalue())

    assert marks(1) < marks(4) < marks(16)


def test_the_same_report_again_gives_the_same_bytes_in_place(tmp_path: Path) -> None:
    first = report(tmp_path / "r.html")
    paths = [first.page, *first.pictures.values()]
    old = [path.read_bytes() for path in paths]
    for path in paths:
        path.write_bytes(b"something else")
    assert report(tmp_path / "r.html") == first
    assert [path.read_bytes() for path in paths] == old
    assert set(tmp_path.iterdir()) == set(paths)


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "r.html"
    old.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        report(old)
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


@pytest.mark.slow
def test_a_whole_space_fits(tmp_path: Path) -> None:
    n_archs = 15_625
    rng = np.random.default_rng(0)
    files = report(
        tmp_path / "r.html",
        texts=[f"|nor_conv_3x3~0|+|none~0|none~1|+|{i}" for i in range(n_archs)],
        predicted=rng.random(n_archs),
        truth=rng.random(n_archs),
    )
    page = files.page.read_text(encoding="utf-8")
    assert '"type":"scattergl"' in page
    assert len(page) < 10_000_000
