import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from own_spaces import SMALL, ToyNet, isolated_registries, toy_space
from small_run import read_table
from torch import nn

from wsx.cli import main
from wsx.errors import CheckpointError, DuplicateNameError, OptionError, UnknownNameError
from wsx.exporters.extract import extract
from wsx.exporters.folder import open_folder
from wsx.spaces import SPACES, load_space
from wsx.supernets import SUPERNETS, build_supernet, supernet_of
from wsx.supernets.sliced_norm import SlicedBatchNorm2d
from wsx.supernets.slicing import untouched_outside_slices
from wsx.training import RECIPES, DataSpec, RunConfig, open_run, train_supernet

EXAMPLE = Path(__file__).parents[1] / "examples" / "own_space.py"
SPEC = f"{EXAMPLE}:SPACE"


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_registries():
        yield


# Tying a module to a space ---------------------------------------------------------------------------------


class Plain(nn.Module):
    def __init__(self, image_size, n_classes=4, *, hidden: int = 0, rate: float = 0.5, act="relu"):
        super().__init__()
        self.chosen = (image_size, n_classes, hidden, rate, act)
        self.last = nn.Linear(2, n_classes)

    def forward(self, x, arch):
        return self.last(x.mean((2, 3))) * (1.0 + sum(arch))


def test_keywords_of_the_constructor_become_options():
    assert supernet_of(toy_space())(Plain) is Plain
    net = build_supernet("toy", {"hidden": 3, "image_size": 6, "in_channels": 2}, seed=0)
    assert net.net.chosen == (6, 4, 3, 0.5, "relu")
    assert dataclasses.asdict(net.options) == {
        "n_classes": 4, "in_channels": 2, "image_size": 6, "hidden": 3, "rate": 0.5, "act": "relu"
    }  # fmt: skip
    assert net.macro() == {"n_classes": 4, "in_channels": 2, "image_size": 6, "hidden": 3}
    assert SPACES["toy"].supernet == "toy"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"hiden": 3}, UnknownNameError, "Did you mean hidden"),
        ({"hidden": 0.5}, OptionError, "hidden is 0.5; it must be of type int"),
        ({"image_size": 0}, OptionError, "image_size is 0; it must be at least 1"),
    ],
)
def test_options_are_checked(options, error, message):
    supernet_of(toy_space())(Plain)
    with pytest.raises(error, match=message):
        build_supernet("toy", options, seed=0)


def test_zero_is_a_value_of_ones_own_options():
    supernet_of(toy_space())(Plain)
    assert build_supernet("toy", {"hidden": 0}, seed=0).net.chosen[2] == 0


class NeedsMore(nn.Module):
    def __init__(self, n_classes, width):
        super().__init__()

    def forward(self, x, arch):
        return x


class ListOption(NeedsMore):
    def __init__(self, n_classes, widths=(1, 2)):
        super().__init__(n_classes, 0)


class Positional(NeedsMore):
    def __init__(self, width=3, /):
        super().__init__(1, 0)


class NoArch(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (NeedsMore, "NeedsMore: option width needs a default"),
        (ListOption, "ListOption: option widths needs a default"),
        (Positional, "Positional: option width needs a default"),
        (NoArch, r"NoArch.forward takes \(self, x\); it must take \(self, x, arch\)"),
        (dict, "is no class of nn.Module"),
        (nn.ReLU(), "is no class of nn.Module"),
    ],
)
def test_modules_of_another_shape_are_refused(module, message):
    with pytest.raises(OptionError, match=message):
        supernet_of(toy_space())(module)
    assert "toy" not in SPACES


def test_a_taken_name_is_refused():
    with pytest.raises(DuplicateNameError, match="'nasbench201' is registered twice"):
        supernet_of(toy_space("nasbench201"))(Plain)
    assert SUPERNETS["nasbench201"].__name__ == "NasBench201Supernet"


def test_initialisation_is_seeded():
    supernet_of(toy_space())(ToyNet)
    first, again, other = (build_supernet("toy", SMALL, seed=seed).net.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# The sliced norm -------------------------------------------------------------------------------------------


def filled(norm):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return norm.double()


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_sliced_norm_is_a_norm_of_the_first_channels(is_training, width):
    shared, alone = filled(SlicedBatchNorm2d(5)), nn.BatchNorm2d(width).double()
    before = {name: t.clone() for name, t in shared.state_dict().items()}
    alone.load_state_dict({n: t[:width] if t.dim() else t for n, t in before.items()})
    x = torch.rand(4, width, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, expected = (norm.train(is_training)(x) for norm in (shared, alone))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    for name in ("running_mean", "running_var"):
        average = getattr(shared, name)
        torch.testing.assert_close(average[:width], getattr(alone, name), rtol=0, atol=1e-14)
        assert torch.equal(average[width:], before[name][width:])


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_a_sliced_norm_without_weights_or_averages(options):
    shared, alone = SlicedBatchNorm2d(5, **options).eval(), nn.BatchNorm2d(2, **options).eval()
    x = torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(shared(x), alone(x), rtol=0, atol=1e-6)


def test_with_momentum_zero_a_sliced_norm_reads_no_average():
    norm = filled(SlicedBatchNorm2d(5)).train()
    norm.momentum, norm.running_mean = 0.0, torch.zeros(2).double()
    x = torch.rand(4, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert norm(x).shape == x.shape
    assert len(norm.running_mean) == 2


def test_a_step_on_a_narrow_input_leaves_the_other_channels_of_a_sliced_norm():
    norm = filled(SlicedBatchNorm2d(5)).train()
    before = norm.weight.detach().clone()
    optimizer = torch.optim.SGD(norm.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    norm(torch.rand(4, 2, 3, 3, dtype=torch.float64)).square().sum().backward()
    with untouched_outside_slices(optimizer, norm.parameters()):
        optimizer.step()
    assert (norm.weight != before).tolist() == [True, True, False, False, False]


def test_equal_slices_of_different_parameters_stay_two_when_extracted():
    # Fresh scales and shifts are ones and zeros: three layers once came out as one.
    load_space(SPEC)
    net = build_supernet("own-cnn", {"in_channels": 1, "image_size": 8}, seed=0)
    subnet = extract(net, SPACES["own-cnn"].parse("kernel=3,width=8,depth=3,activation=relu"))
    norms = [layer for layer in subnet.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 3


# The whole loop --------------------------------------------------------------------------------------------

SPLITS = {"n_train": 128, "n_valid": 32, "n_test": 61}
DATA = ["--data", "digits", "--n-train", "128", "--n-valid", "32", "--n-test", "61"]
VALUES = {"epochs": "1", "batch_size": "32", "flips": "false", "pool": "4"}
SETTINGS = [part for name, value in VALUES.items() for part in ("--set", f"{name}={value}")]
BN = ["--bn", "calibrated:2x32"]


@pytest.fixture
def wsx(monkeypatch, capsys):
    """Return a function that runs a command as in a process of its own: nothing stays registered."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["wsx", *map(str, arguments)])
        with isolated_registries(), pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def succeeds(wsx):
    def call(*arguments):
        code, out, err = wsx(*arguments)
        assert (code, err) == (0, "")
        return json.loads(out)

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "run"
    with isolated_registries():
        recipe = RECIPES["default"].override(VALUES)
        config = RunConfig(load_space(SPEC).name, recipe, DataSpec("digits", **SPLITS), seed=0)
        train_supernet(config, path)
    return path


def test_the_example_is_at_most_60_lines_of_code():
    lines = EXAMPLE.read_text().split('"""', 2)[2].splitlines()
    assert sum(bool(line.strip()) for line in lines) <= 60


def test_the_example_goes_through_the_loop(wsx, succeeds, run, tmp_path):
    own = ["--space", SPEC]
    trained = succeeds("train", *own, *DATA, *SETTINGS, "--out", run, "--json")
    assert (trained["step"], trained["steps done now"]) == (4, 0)
    scored = succeeds("evaluate", run, *own, "--all", *BN, "--out", tmp_path / "s.h5", "--json")
    assert (scored["run"], scored["failed"]) == (36, 0)
    made = succeeds("export-subnets", run, *own, "--n", 5, *BN, "--verify", "all", "--out",
                    tmp_path / "subnets", "--json")  # fmt: skip
    assert (made["written"], made["verified"], made["disagreeing"]) == (5, 5, 0)
    # An exported folder needs neither the code nor its place.
    again = succeeds("evaluate", tmp_path / "subnets", "--out", tmp_path / "folder.h5", "--json")
    assert (again["run"], again["failed"]) == (5, 0)
    assert again["campaign"] == scored["campaign"]
    table, folder = read_table(tmp_path / "s.h5"), read_table(tmp_path / "folder.h5")
    costs = dict(zip(table.text, zip(table.params, table.flops, strict=True), strict=True))
    exported = dict(zip(folder.text, zip(folder.params, folder.flops, strict=True), strict=True))
    assert {text: costs[text] for text in exported} == exported
    assert costs["kernel=3,width=8,depth=1,activation=relu"] == (
        9 * 8 + 2 * 8 + 8 * 10 + 10,
        9 * 8 * 64 + 8 * 10 + 10,
    )
    truth = tmp_path / "truth.csv"
    truth.write_text(
        "arch,digits_test\n" + "".join(f'"{t}",0.{50 + i}\n' for i, t in enumerate(table.text))
    )
    facts = succeeds("analyze", tmp_path / "s.h5", "--truth", f"{truth}:digits_test", "--resamples",
                     10, "--json")  # fmt: skip
    assert (facts["n_scored"], facts["n_without_truth"]) == (36, 0)
    assert facts["key"]["space"] == "own-cnn"
    assert np.isfinite(facts["summary"]["baselines"]["params"]["kendall_tau"]["value"])


def test_a_runs_code_is_only_imported_when_it_is_named(wsx, run, tmp_path):
    for command in ("evaluate", "export-subnets"):
        code, out, err = wsx(command, run, "--n", 2, *BN, "--out", tmp_path / "out")
        assert (code, out) == (1, "")
        assert "no space named 'own-cnn'" in err
        assert f"It was made with --space '{SPEC}'" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
    with isolated_registries(), pytest.raises(CheckpointError, match="give it with --space"):
        open_run(run)


def test_a_run_whose_decisions_changed_is_refused(wsx, run, tmp_path):
    changed = tmp_path / "own_space.py"
    changed.write_text(EXAMPLE.read_text().replace("(8, 12, WIDEST)", "(8, 14, WIDEST)"))
    code, _, err = wsx(
        "evaluate", run, "--space", f"{changed}:SPACE", "--n", 2, *BN, "--out", "s.h5"
    )
    assert code == 1
    assert "space own-cnn has other decisions than then" in err


def test_a_module_that_is_gone_is_one_line(wsx, run):
    code, _, err = wsx("evaluate", run, "--space", "gone.py:SPACE", "--n", 2, *BN, "--out", "s.h5")
    assert (code, err) == (1, "wsx: space 'gone.py:SPACE': there is no file gone.py\n")


def test_an_exported_folder_keeps_the_decisions_and_the_costs(succeeds, run, tmp_path):
    out = tmp_path / "subnets"
    succeeds("export-subnets", run, "--space", SPEC, "--n", 3, *BN, "--out", out, "--json")
    folder = open_folder(out)
    load_space(SPEC)
    assert folder.space.options == SPACES["own-cnn"].options
    supernet, _ = open_run(run).load()
    for row in folder.rows.values():
        subnet = extract(supernet, row.arch)
        assert row.params == sum(parameter.numel() for parameter in subnet.parameters())
        assert row.text == SPACES["own-cnn"].format(row.arch)


@pytest.mark.slow
def test_ones_own_archs_are_trained_alone_in_other_processes(tmp_path):
    command = ["train-standalone", "--space", SPEC, *DATA, *SETTINGS, "--n", 2, "--workers", 1]
    arguments = [sys.executable, "-m", "wsx.cli", *map(str, command), "--out", "truth.csv"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "truth.csv").exists()) == (0, True), done.stderr
