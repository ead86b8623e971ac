"""The step of a study that compares gradients: killed and resumed, and its verdicts on planted cosines."""

from dataclasses import replace

import numpy as np
import pytest
from planted_cell64 import SPACE, TEXTS

from wsx.analysis import shared_decisions
from wsx.errors import StoreError, StudyError
from wsx.store.pairs import PairTable, read_pairs
from wsx.studies.papers import STUDIES, Machine, settings_of
from wsx.studies.papers.p3 import gradients
from wsx.studies.papers.p3.gradients import (
    CompareGradients,
    agreements,
    read_agreements,
    table_path,
)
from wsx.training import train_supernet

SHARED = shared_decisions(np.array(list(SPACE.enumerate())))
SETTINGS = settings_of(STUDIES["interference"], "tiny", {"recipe.epochs": "1", "seeds": "0,1,2"})
RUNS = {
    name: replace(config, recipe=replace(config.recipe, checkpoint_last_steps=0))
    for name, config in SETTINGS.runs().items()
}


def planted(slope, noise=0.01, common=None, *, seed):
    rng = np.random.default_rng(seed)
    kicks = rng.normal(0, noise, SHARED.shape)
    cosine = 0.1 + slope * SHARED + kicks + kicks.T
    columns = {
        "cosine": cosine,
        "cosine_common": cosine if common is None else 0.1 + common * SHARED + kicks + kicks.T,
        "n_shared_decisions": SHARED,
    }
    return PairTable(TEXTS, columns, {"n_images": 8})


@pytest.mark.parametrize(
    ("slope", "right"), [(0.1, "holds"), (-0.1, "does not hold"), (0.0, "open")]
)
def test_the_claim_on_planted_cosines(slope, right):
    found = agreements([planted(slope, common=-slope, seed=seed) for seed in range(5)], TEXTS)
    assert found.claim().verdict == right
    assert "95 % over 5 seeds" in found.claim().evidence
    rows = {row[0]: row for row in found.table().rows}
    assert rows["cosine per operation shared"][1] == pytest.approx(slope, rel=0, abs=0.002)
    rho = rows["rank correlation of cosine and operations shared"][1]
    assert rows["the same on the weights that all archs use"][1] * rho <= 0.01
    (series,) = found.plot().series
    assert series.x == [0, 1, 2]
    assert series.y == pytest.approx([0.1 + slope * n for n in range(3)], rel=0, abs=0.004)
    assert all(
        low < y < high for low, y, high in zip(series.low, series.y, series.high, strict=True)
    )


def test_tables_of_other_archs_are_refused():
    with pytest.raises(StudyError, match="64 archs, and not the 63"):
        agreements([planted(0.1, seed=0)], TEXTS[1:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    for name, config in RUNS.items():
        train_supernet(config, folder / "runs" / name)
    return folder


class Killed(BaseException):
    pass


def test_a_killed_step_goes_on_where_it_stopped(folder):
    step = CompareGradients("gradients", RUNS)
    assert step.work().n_train_images == 3 * 8 * 128
    told = []

    def kill(n, n_all, note):
        told.append((n, n_all, note))
        if n == 11:
            raise Killed

    with pytest.raises(Killed):
        step.run(folder, Machine(), kill)
    assert told[0] == (1, 24, f"seed-0 {SETTINGS.texts[0]}")
    assert [path.stem for path in (folder / "gradients").iterdir()] == ["seed-0"]
    with pytest.raises(StoreError, match="seed-1"):
        read_agreements(folder, tuple(RUNS), SETTINGS.texts)
    first = table_path(folder, "seed-0").stat().st_mtime_ns
    table_path(folder, "seed-2").write_bytes(b"half a file")
    told.clear()
    step.run(folder, Machine(), lambda *a: told.append(a))
    assert [n for n, *_ in told] == list(range(9, 25))
    assert table_path(folder, "seed-0").stat().st_mtime_ns == first
    found = read_agreements(folder, tuple(RUNS), SETTINGS.texts)
    assert found.mean.values.size == 3
    assert (found.n_images, list(found.by_shared)) == (128, [0, 1, 2])
    told.clear()
    step.run(folder, Machine(), lambda *a: told.append(a))
    assert told == []


def test_another_checkpoint_is_compared_again(folder, monkeypatch):
    CompareGradients("gradients", RUNS).run(folder, Machine(), lambda *_: None)
    before = read_pairs(table_path(folder, "seed-1"))
    monkeypatch.setattr(gradients, "file_sha256", lambda path: "0" * 64)
    told = []
    CompareGradients("gradients", {"seed-1": RUNS["seed-1"]}).run(
        folder, Machine(), lambda *a: told.append(a)
    )
    assert len(told) == 8
    again = read_pairs(table_path(folder, "seed-1"))
    assert np.array_equal(again.columns["cosine"], before.columns["cosine"])


@pytest.mark.parametrize(
    ("values", "n_images"),
    [({}, 128), ({"recipe.batch_size": "100"}, 100), ({"data.n_train": "1300"}, 1024)],
)
def test_images_are_whole_batches(values, n_images):
    settings = settings_of(STUDIES["interference"], "tiny", values)
    images = CompareGradients("gradients", settings.runs()).images
    assert (images.n, images.batch_size) == (n_images, settings.recipe.batch_size)
