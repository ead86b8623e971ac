import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wsx.data import TextSet
from wsx.errors import CheckpointError, DataError, OptionError, TrainingError
from wsx.spaces import SPACES
from wsx.training import RECIPES, DataSpec, RunConfig, open_run, train_supernet
from wsx.training import supernet as supernet_module
from wsx.training import text as text_module
from wsx.training.sampling import ArchSampler
from wsx.training.text import TextTrainer
from wsx.training.text_data import Windows
from wsx.training.text_recipes import TextRecipe

WORDS = [f"w{i}" for i in range(14)]
CPU = torch.device("cpu")
RECIPE = TextRecipe(
    epochs=4,
    batch_size=3,
    lr=2.0,
    window=9,
    window_std=2.0,
    window_extra=4,
    patience=1,
    valid_streams=2,
    checkpoint_epochs=2,
    supernet={"hidden_size": 8},
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    for split, n_lines in (("train", 30), ("valid", 8), ("test", 8)):
        lines = [" ".join(rng.choice(WORDS, size=rng.integers(1, 12))) for _ in range(n_lines)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return f"cats={folder}"


def make_config(spec, **changes):
    return RunConfig("darts-ptb", replace(RECIPE, **changes), DataSpec(spec), seed=7)


class InterruptionError(Exception):
    pass


def train_interrupted(config, out, steps):
    def interrupt_at(step):
        def on_progress(progress):
            if progress.step == step:
                raise InterruptionError

        return on_progress

    for step in steps:
        with pytest.raises(InterruptionError):
            train_supernet(config, out, on_progress=interrupt_at(step))
        torch.rand(step)
    return train_supernet(config, out)


def read_log(path):
    with (path / "log.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k != "tokens_per_s"} for row in csv.DictReader(file)
        ]


def assert_same_run(a, b):
    names = sorted(str(p.relative_to(a)) for p in a.rglob("*.safetensors"))
    assert names == sorted(str(p.relative_to(b)) for p in b.rglob("*.safetensors"))
    assert "checkpoints/epoch-0002.safetensors" in names
    for name in names:
        one, other = load_file(a / name), load_file(b / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert read_log(a) == read_log(b)


@pytest.mark.slow
def test_an_interrupted_run_equals_an_uninterrupted_one(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(supernet_module, "SAVE_EVERY_S", 0.0)
    original = TextTrainer.valid_loss
    # Rising losses, so that the third epoch's end begins the averaging.
    monkeypatch.setattr(TextTrainer, "valid_loss", lambda t: original(t) + len(t._history))
    config = make_config(spec)
    whole = train_supernet(config, tmp_path / "whole")
    n_steps = whole.facts()["step"]
    parts = train_interrupted(config, tmp_path / "parts", [2, n_steps // 2, n_steps - 1])
    assert_same_run(whole.path, parts.path)
    state = load_file(whole.path / "last.safetensors")
    # The last epochs had averages to carry over.
    assert int(state["counts"][0]) > 0
    rows = read_log(whole.path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert all(math.isfinite(float(row["valid_loss"])) for row in rows)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_a_repeated_command_does_nothing_and_the_run_is_read_back(spec, tmp_path):
    config = make_config(spec, epochs=1)
    run = train_supernet(config, tmp_path / "run")
    before = (run.path / "last.safetensors").read_bytes()
    steps = []
    train_supernet(config, run.path, on_progress=steps.append)
    assert (steps, (run.path / "last.safetensors").read_bytes()) == ([], before)
    assert open_run(run.path).config == config
    supernet, checkpoint = run.load()
    assert supernet.options.hidden_size == 8
    vocabulary = (run.path / "vocabulary.txt").read_text().split()
    assert len(vocabulary) == supernet.options.n_tokens == checkpoint.facts["supernet"]["n_tokens"]


def test_a_run_does_not_go_on_with_another_text(spec, tmp_path):
    config = make_config(spec, epochs=1)
    run = train_supernet(config, tmp_path / "run")
    (run.path / "vocabulary.txt").write_text("a\n<eos>\n<unk>\n")
    with pytest.raises(CheckpointError, match="has changed"):
        train_supernet(config, run.path)


def make_windows(n, **changes):
    tokens = np.arange(n) % 50
    text = TextSet("mine", "train", tokens.astype(np.int64), 50)
    return Windows(text, replace(RECIPE, **changes), seed=1, device=CPU), tokens


def test_the_windows_of_an_epoch_cover_every_stream_once():
    windows, tokens = make_windows(500, epochs=3)
    streams = tokens[: 166 * 3].reshape(3, 166)
    by_epoch = [[], [], []]
    for step in range(windows.n_steps):
        by_epoch[windows[step].epoch].append(windows[step])
    lengths = [[w.inputs.shape[1] for w in epoch] for epoch in by_epoch]
    assert lengths[0] != lengths[1]
    for epoch in by_epoch:
        assert [w.is_first for w in epoch] == [True] + [False] * (len(epoch) - 1)
        assert [w.is_last for w in epoch] == [False] * (len(epoch) - 1) + [True]
        assert np.array_equal(np.concatenate([w.inputs for w in epoch], 1), streams[:, :-1])
        assert np.array_equal(np.concatenate([w.labels for w in epoch], 1), streams[:, 1:])
    # The last window of an epoch takes what is left.
    assert all(5 <= n <= 13 for epoch in lengths for n in epoch[:-1])


def test_lengths_are_drawn_as_the_recipe_says():
    windows, _ = make_windows(
        60_000, epochs=1, window=35, window_std=5.0, window_extra=20, window_half_share=0.05
    )
    lengths = np.array([windows[step].inputs.shape[1] for step in range(windows.n_steps - 1)])
    is_half = lengths < 25
    # About 580 windows: three standard errors of a share of .05 (and a few long ones) are .03.
    assert abs(is_half.mean() - 0.05 - 0.02) < 0.03
    # Integers are cut off, half a token on average; the standard error is .22.
    assert abs(lengths[~is_half].mean() - 34.5) < 0.9
    assert abs(lengths[~is_half].std() - 5.0) < 0.6


def test_a_text_too_short_for_its_streams_is_refused():
    with pytest.raises(DataError, match="too few for 3 streams"):
        make_windows(5)


def make_trainer(spec, **changes):
    config = make_config(spec, **changes)
    return text_module.text_training(config, CPU).trainer


@pytest.mark.slow
def test_averages_are_the_mean_of_the_weights_since_they_began(spec):
    trainer = make_trainer(spec, epochs=6, lr=30.0)
    kept, began = [], None
    for progress in trainer.run():
        if began is not None:
            kept.append(
                {n: p.detach().clone().double() for n, p in trainer.model.named_parameters()}
            )
        if progress.is_epoch_end and trainer._averages and began is None:
            began = progress.step
    assert len(kept) > 5
    weights = trainer.weights()
    for name in kept[0]:
        mean = torch.stack([state[name] for state in kept]).mean(0)
        torch.testing.assert_close(weights[name].double(), mean, rtol=1e-4, atol=1e-6)
    moving = dict(trainer.model.named_parameters())
    assert not torch.equal(weights["embedding"], moving["embedding"])
    # The validation loss is that of the averages, and leaves the weights alone.
    before = {n: p.clone() for n, p in moving.items()}
    loss = trainer.valid_loss()
    assert all(torch.equal(before[n], p) for n, p in trainer.model.named_parameters())
    trainer.model.load_state_dict(weights)
    trainer._n_averaged = 0
    assert trainer.valid_loss() == loss


@pytest.mark.slow
def test_averaging_waits_for_the_validation_loss(spec, monkeypatch):
    losses = iter([5.0, 4.0, 4.5, 3.9, 4.2, 4.1, 4.0])
    monkeypatch.setattr(TextTrainer, "valid_loss", lambda self: next(losses))
    trainer = make_trainer(spec, epochs=7, patience=2)
    began = [bool(trainer._averages) for p in trainer.run() if p.is_epoch_end]
    # Epoch 5: 4.2 exceeds the best of the first two (4.0); epochs 3 and 4 do not exceed theirs.
    assert began == [False, False, False, False, True, True, True]


def diverge_at(monkeypatch, wrong):
    """Make the steps of these numbers, counted over all attempts, yield a loss that is not a number."""
    original, calls = TextTrainer._train_step, []

    def train_step(self, *arguments):
        hidden, counts = original(self, *arguments)
        calls.append(self.step)
        return hidden, counts * math.nan if len(calls) in wrong else counts

    monkeypatch.setattr(TextTrainer, "_train_step", train_step)
    return calls


def test_training_goes_back_to_the_last_epoch_and_tries_other_draws(spec, monkeypatch):
    trainer = make_trainer(spec, epochs=2)
    n_first = next(s for s in range(trainer.n_steps) if trainer._windows[s].is_last) + 1
    calls = diverge_at(monkeypatch, {n_first + 3})
    steps = [progress.step for progress in trainer.run()]
    assert calls[n_first + 2 : n_first + 5] == [n_first + 2, n_first, n_first + 1]
    assert steps[-1] == trainer.n_steps
    assert trainer._n_rollbacks == 1
    monkeypatch.undo()
    undisturbed = make_trainer(spec, epochs=2)
    for _ in undisturbed.run():
        pass
    pairs = zip(trainer.model.parameters(), undisturbed.model.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs)


def test_training_gives_up_after_so_many_times(spec, monkeypatch):
    diverge_at(monkeypatch, {4, 8, 12})
    with pytest.raises(TrainingError, match="after going back 2 times"):
        list(make_trainer(spec, rollbacks=2).run())


def test_a_step_is_plain_gradient_descent(spec):
    names = ("embedding", "input", "cell_input", "hidden", "output")
    supernet = {"hidden_size": 8} | {f"dropout_{name}": 0.0 for name in names}
    trainer = make_trainer(spec, supernet=supernet, clip=0.0, weight_decay=0.01, slowness=0.5)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    window, arch = trainer._windows[0], ArchSampler(SPACES["darts-ptb"], RECIPE, seed=7)[0][0]
    states, _ = trainer.model.states(window.inputs, arch, trainer.model.initial_hidden(3))
    log_p = torch.log_softmax(trainer.model.decode(states), 2)
    loss = -log_p.gather(2, window.labels[:, :, None]).mean()
    slow = ((states[:, 1:] - states[:, :-1]) ** 2).mean()
    gradients = torch.autograd.grad(loss + 0.5 * slow, list(trainer.model.parameters()))
    progress = next(iter(trainer.run()))
    assert progress.loss == pytest.approx(loss.item(), rel=1e-6)
    assert progress.lr == 2.0 * window.inputs.shape[1] / 9
    for (name, parameter), gradient in zip(
        trainer.model.named_parameters(), gradients, strict=True
    ):
        expected = before[name] - progress.lr * (gradient + 0.01 * before[name])
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-5, atol=1e-7)


def test_recipes_have_the_published_numbers():
    recipe = RECIPES["p1-darts-ptb"]
    assert (recipe.lr, recipe.batch_size, recipe.clip, recipe.weight_decay) == (
        40.0,
        256,
        0.1,
        8e-7,
    )
    assert (recipe.window, recipe.window_extra, recipe.slowness, recipe.patience) == (
        35,
        20,
        1e-3,
        5,
    )
    assert recipe.supernet == {"hidden_size": 850}
    assert RECIPES["wt2-two-cores"].override({"window": "20", "hidden_size": "4"}).window == 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentum": 0.9}, "momentum is 0.9; training on text does not use it"),
        ({"n_paths": 2}, "n_paths"),
        ({"checkpoint_steps": 5}, "checkpoint_steps"),
        ({"flips": True}, "flips"),
        ({"window": 0}, "window is 0"),
        ({"window_std": math.nan}, "window_std"),
        ({"window_half_share": 1.5}, "window_half_share"),
        ({"rollbacks": -1}, "rollbacks"),
    ],
)
def test_values_that_make_no_sense_are_refused(values, message):
    with pytest.raises(OptionError, match=message):
        replace(RECIPE, **values)


def test_recipes_and_data_must_be_of_the_spaces_kind(spec, tmp_path):
    with pytest.raises(OptionError, match="not for text, which darts-ptb reads"):
        RunConfig("darts-ptb", RECIPES["default"], DataSpec(spec), seed=0)
    with pytest.raises(OptionError, match="not for images, which nasbench201 reads"):
        RunConfig("nasbench201", RECIPE, DataSpec("digits"), seed=0)
    with pytest.raises(OptionError, match="n_train is 5; text is used whole"):
        DataSpec(spec, n_train=5).load_text()
    with pytest.raises(OptionError, match="the text has"):
        make_trainer(spec, supernet={"hidden_size": 8, "n_tokens": 3})
    with pytest.raises(DataError, match="is no text"):
        train_supernet(make_config("digits"), tmp_path / "run")
