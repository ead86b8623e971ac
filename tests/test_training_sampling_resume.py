"""Every sampler resumes bit for bit."""

from dataclasses import replace

import pytest
from test_training_resume import (  # noqa: F401  (the fixture serves by its name)
    differences,
    every_epoch_is_saved,
    make_config,
    train_interrupted,
)

from wsx.training import train_supernet
from wsx.training.samplers import SAMPLERS, gradual

CASES = {
    "uniform": {"n_paths": 2, "gradients": "sum"},
    "fair": {"gradients": "sum"},
    "round-robin fixed": {"order": "fixed", "n_paths": 2},
    "round-robin shuffled": {"order": "shuffled"},
    "round-robin reshuffled": {"order": "reshuffled", "measure": "list"},
    "sandwich": {"distills": True},
    "gradual": {"walk_length": 4, "n_ranks": 2, "parallel_sampling": True},
}


def config_of(name, folder):
    values = {"n_paths": 1, "restart_epochs": 2, "checkpoint_last_steps": 3, **CASES[name]}
    if values.get("measure") == "list":
        # So short that a pass ends in the middle of an epoch.
        path = folder / "archs.txt"
        path.write_text("0\n77\n1500\n9000\n")
        values["measure"] = f"list:{path}"
    config = make_config(name.split()[0])
    return replace(config, recipe=replace(config.recipe, **values))


def test_every_sampler_is_among_the_cases():
    assert {name.split()[0] for name in CASES} == set(SAMPLERS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, name):
    config = config_of(name, tmp_path)
    train_supernet(config, tmp_path / "whole")
    train_interrupted(config, tmp_path / "parts", [5])
    assert differences(tmp_path / "whole", tmp_path / "parts") == []


def test_the_check_sees_a_walk_that_starts_where_the_process_does(tmp_path, monkeypatch):
    config = config_of("gradual", tmp_path)
    train_supernet(config, tmp_path / "whole")

    def forgetful(self, step, rank):
        n_seen[0] += 1
        return whole_walk(self, n_seen[0], rank)

    n_seen, whole_walk = [0], gradual.Gradual.archs
    monkeypatch.setattr(gradual.Gradual, "archs", forgetful)
    train_interrupted(config, tmp_path / "parts", [5])
    assert differences(tmp_path / "whole", tmp_path / "parts") != []
