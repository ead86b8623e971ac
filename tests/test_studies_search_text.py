import numpy as np
import pytest
from small_run import outcomes, read_table

from wsx.search import Evolution
from wsx.spaces.choice import ArchChoice
from wsx.studies.evaluate_run import evaluate_run
from wsx.studies.images import ImageChoice
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.search.run import search_run
from wsx.studies.search.settings import SearchSettings
from wsx.training import DataSpec, RunConfig, train_supernet
from wsx.training.text_recipes import TextRecipe

WORDS = [f"w{i}" for i in range(12)]


@pytest.fixture(scope="module")
def subnets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(0)
    for split, n_lines in (("train", 20), ("valid", 12), ("test", 12)):
        lines = [" ".join(rng.choice(WORDS, size=8)) for _ in range(n_lines)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    recipe = TextRecipe(epochs=1, batch_size=2, supernet={"hidden_size": 8})
    config = RunConfig("darts-ptb", recipe, DataSpec(f"words={folder}"), seed=0)
    return RunSubnets(train_supernet(config, folder / "run"), "calibrated:4x256")


def test_recurrent_cells_are_searched_by_loss(subnets, tmp_path):
    rules = Evolution(8, population=4, tournament=2, per_round=2)
    report = search_run(
        subnets,
        tmp_path / "s.h5",
        SearchSettings(rules, by="loss", top=3),
        images=ImageChoice("valid"),
        device="cpu",
    )
    losses = [winner.loss for winner in report.winners]
    assert losses == sorted(losses)
    assert [-loss for loss in losses] == [winner.value for winner in report.winners]
    space = subnets.recorder.space
    texts = {space.format(trial.arch) for trial in report.trials}
    (tmp_path / "archs.txt").write_text("\n".join(sorted(texts)) + "\n")
    key, _ = evaluate_run(
        subnets,
        tmp_path / "e.h5",
        choice=ArchChoice(file=tmp_path / "archs.txt"),
        images=ImageChoice("valid"),
        device="cpu",
    )
    assert report.key == key
    assert outcomes(read_table(tmp_path / "s.h5")) == outcomes(read_table(tmp_path / "e.h5"))
