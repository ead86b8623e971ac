import doctest
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_store_samples import make_failed, make_key, make_score

from wsx.store import open_store
from wsx.store.records import COLUMNS, FORMAT, FORMAT_VERSION, STATUSES
from wsx.version import __version__

DOCUMENT = Path(__file__).parents[1] / "docs" / "format.md"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "scores.h5"
    with open_store(path, "a") as store:
        campaign = store.campaign(make_key(), image_ids=range(10), info={"seed": 0})
        campaign.append(
            [make_score((0, 1), n_images=10), make_failed((1, 4)), make_score((2, 2), n_images=10)]
        )
    return path


def test_transcript_is_what_the_interpreter_says(path: Path) -> None:
    text = re.sub("^```.*$", "", DOCUMENT.read_text(), flags=re.MULTILINE)
    transcript = doctest.DocTestParser().get_doctest(text, {}, "format.md", None, 0)
    result = doctest.DocTestRunner().run(transcript)
    assert result.attempted > 5
    assert result.failed == 0


def test_document_lists_every_member(path: Path) -> None:
    text = DOCUMENT.read_text()
    with h5py.File(path) as file:
        (group,) = file["campaigns"].values()
        stated = set(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE))
        assert stated == {*file.attrs, *group.attrs, *group, "axes", "unit"}
        for column in COLUMNS:
            assert group[column.name].attrs["axes"] == "arch"
            assert group[column.name].attrs.get("unit", "") == column.unit
        assert group["bits"].attrs["axes"] == "arch, image/8"
        assert group["arch"].attrs["axes"] == "arch, decision"
        assert group["image_ids"].attrs["axes"] == "image"
    for status in STATUSES:
        assert f"`{status}`" in text


def test_header(path: Path) -> None:
    with h5py.File(path) as file:
        assert file.attrs["format"] == FORMAT == "wsx-scores"
        assert file.attrs["format_version"] == FORMAT_VERSION == 1
        assert file.attrs["wsx_version"] == __version__
        assert file.attrs["folded_through"] == 3
        assert re.fullmatch("[0-9a-f]{32}", file.attrs["store_id"])


def test_plain_hdf5_tools_see_what_was_stored(path: Path) -> None:
    scores = [make_score((0, 1), n_images=10), make_failed((1, 4)), make_score((2, 2), n_images=10)]
    with h5py.File(path) as file:
        group = file["campaigns"][make_key().digest()[:16]]
        for name, value in make_key().as_dict().items():
            assert group.attrs[name] == value
        assert group["arch"][...].tolist() == [list(score.arch) for score in scores]
        assert [raw.decode() for raw in group["error"][...]] == [score.error for score in scores]
        assert group["correct"][...].tolist() == [score.correct for score in scores]
        unpacked = np.unpackbits(group["bits"][...], axis=1)[:, :10]
        assert unpacked.sum(axis=1).tolist() == [score.correct for score in scores]
