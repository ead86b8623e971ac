"""The commands that train with fewer archs or less sharing, and that score over time."""

import json

import numpy as np
import pytest
from small_run import BN, SETTINGS, read_table, some_archs, write_archs

from wsx.studies.panel import read_panel
from wsx.training import open_run

DATA = ["--data", "digits", "--n-train", "128", "--n-valid", "64", "--n-test", "101"]
TRAIN = ["train", "--space", "nasbench201", *DATA, "--recipe", "digits", "--json", "--quiet"]
TRAIN += [part for pair in SETTINGS.items() for part in ("--set", "=".join(pair))]


def done(called):
    code, out, err = called
    assert (code, err) == (0, "")
    return json.loads(out)


@pytest.mark.slow
def test_a_run_scored_over_time_and_fine_tuned(wsx, tmp_path):
    run, scores = tmp_path / "run", tmp_path / "scores.h5"
    done(wsx(*TRAIN, "--set", "checkpoint_epochs=1", "--out", run))
    archs = write_archs(tmp_path / "archs.txt", some_archs(3, seed=4, measure="reachable"))
    common = ["--archs", archs, "--bn", BN, "--images", "50", "--out", scores, "--json", "--quiet"]
    first = done(wsx("timeline", run, "--checkpoints", "epochs", *common))
    assert (first["checkpoints"], first["scored"], first["failed"]) == (2, 6, 0)
    again = done(wsx("timeline", run, "--checkpoints", "last:1", *common))
    assert (again["complete before"], again["scored"], again["there already"]) == (1, 0, 3)
    tuned = done(
        wsx("finetune", run, "--lr", "0.05", "--batches", "0,2", "--workers", "1", *common)
    )
    assert (tuned["trained"], tuned["scored"], tuned["there already"]) == (3, 3, 3)
    panel = read_panel(scores)
    assert panel.correct.shape == (1, 2, 3)
    after = read_panel(scores, is_finetuned=True)
    assert after.n_batches.tolist() == [0, 2]
    assert np.array_equal(after.correct[:, 0], panel.correct[:, 1])
    assert not np.array_equal(after.loss_sum[:, 0], after.loss_sum[:, 1])
    together = ["analyze", scores, "--panel", "--resamples", "20", "--json"]
    assert done(wsx(*together))["checkpoints"] == ["epoch-0001", "epoch-0002"]
    found = done(wsx(*together, "--finetuned", "--by", "loss"))
    assert found["checkpoints"] == ["epoch-0002", "epoch-0002+2"]
    assert list(found["parts"]) == ["variance", "stability", "ranks"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["timeline", "RUN", "--checkpoints", "epoch-9999", "--n", "2"], "has no checkpoint"),
        (["timeline", "RUN", "--checkpoints", "last:0", "--n", "2"], "at least 1"),
        (["timeline", "RUN", "NOWHERE", "--n", "2"], "holds no run"),
        (["finetune", "RUN", "--lr", "0.1", "--batches", "1,x", "--n", "2"], "--batches '1,x'"),
        (
            ["finetune", "RUN", "--lr", "0.1", "--batches", "1,1", "--n", "2"],
            "names a number twice",
        ),
        (["finetune", "RUN", "--lr", "-1", "--n", "2"], "lr is -1"),
        (["finetune", "RUN", "--lr", "0.1", "--workers", "0", "--n", "2"], "--workers is 0"),
    ],
)
def test_wrong_options_are_one_line(wsx, tmp_path_factory, tmp_path, arguments, message):
    run = tmp_path_factory.getbasetemp() / "run-of-cli-time"
    if not run.exists():
        done(wsx(*TRAIN, "--set", "epochs=1", "--out", run))
    places = {"RUN": run, "NOWHERE": tmp_path / "none"}
    command = [places.get(part, part) for part in arguments]
    code, out, err = wsx(*command, "--out", tmp_path / "s.h5", "--quiet")
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_runs_with_fewer_archs_and_less_sharing(wsx, tmp_path):
    parent = tmp_path / "parent"
    done(wsx(*TRAIN, "--out", parent, "--restrict", "0->1=nor_conv_3x3|skip_connect"))
    config = open_run(parent).config
    assert config.restriction == {"0->1": ["skip_connect", "nor_conv_3x3"]}
    assert config.archs.n_archs == 2 * 5**5
    scores = tmp_path / "scores.h5"
    done(wsx("evaluate", parent, "--n", "6", "--bn", BN, "--out", scores, "--json", "--quiet"))
    drawn = {text.split("~")[0] for text in read_table(scores).text}
    assert drawn <= {"|skip_connect", "|nor_conv_3x3"}
    split = ["--groups", "by:0->1", "--shared", "prefix:1", "--init-from", parent]
    limits = ["--restrict", "0->1=nor_conv_3x3|skip_connect"]
    done(wsx(*TRAIN, "--out", tmp_path / "few", *limits, *split))
    few = open_run(tmp_path / "few").config
    assert few.sharing == {"groups": "by:0->1", "shared": "prefix:1"}
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    copies = ["--copies", f"2:{best}", "--set", "measure=encodings"]
    done(wsx(*TRAIN, "--out", tmp_path / "copies", *copies))
    assert open_run(tmp_path / "copies").config.sharing == {"arch": best, "copies": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--restrict", "0->9=skip_connect"], "no decision of nasbench201 named '0->9'"),
        (["--restrict", "0->1"], "must read DECISION=OPTION|OPTION"),
        (["--groups", "randm:4"], "random"),
        (["--groups", "random:4", "--shared", "prefx:1"], "prefix"),
        (["--shared", "prefix:1"], "groups and shared"),
        (["--copies", "two:x"], "must read K:ARCH"),
        (["--copies", "2:x", "--groups", "random:2"], "without --groups"),
        (["--init-from", "nowhere"], "nowhere"),
    ],
)
def test_wrong_sharing_is_one_line(wsx, tmp_path, options, message):
    code, out, err = wsx(*TRAIN, "--out", tmp_path / "run", *options)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run" / "run.json").exists()
