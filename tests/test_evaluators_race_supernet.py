import json
import subprocess
import sys
import time

import numpy as np
import pytest
from race_answers import top, winners
from small_run import (
    BN,
    N_IMAGES,
    by_text,
    evaluate,
    losses,
    outcomes,
    read_table,
    small_run,
    some_archs,
    write_archs,
)

from wsx.analysis.race import RaceRules
from wsx.cli import main
from wsx.data import TextSet
from wsx.errors import OptionError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.spaces.choice import ArchChoice
from wsx.store import open_store
from wsx.studies.evaluate_folder import evaluate_folder
from wsx.studies.export_run import export_run
from wsx.studies.race import check_race
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import Listener, ScoringOptions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


ARCHS = some_archs(40, seed=21)
REAL = RaceRules(3, 1e-6, 0.0, seed=1, first=20)
ONE_WORKER = ScoringOptions(32, 1)


@pytest.fixture(scope="session")
def reference(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("race-reference") / "s.h5"
    evaluate(run, out, ARCHS, options=ONE_WORKER)
    return read_table(out)


@pytest.mark.parametrize("options", [ONE_WORKER, ScoringOptions(7, 2)])
def test_a_race_on_a_supernet_equals_the_exhaustive_answer(run, reference, tmp_path, options):
    out = tmp_path / "s.h5"
    key, report = evaluate(run, out, ARCHS, options=options, race=REAL)
    assert key == reference.key
    assert winners(report) == top(reference, ARCHS, 3)
    table = read_table(out)
    expected = by_text(reference)
    assert outcomes(table).items() <= outcomes(reference).items()
    assert len(table) < len(ARCHS)
    wanted = [expected[text].loss_sum for text in sorted(outcomes(table))]
    np.testing.assert_allclose(losses(table), wanted, rtol=2e-5)
    assert report.n_calibration_images == 64
    written = json.loads((tmp_path / "s.race.json").read_text())
    assert written == report.as_dict()
    assert [winner["text"] for winner in written["winners"]] == winners(report)
    assert table.info["race"]["k"] == 3
    # The exhaustive campaign goes on where the race stopped.
    _, rest = evaluate(run, out, ARCHS, options=options)
    assert rest.n_finished == len(table)
    assert outcomes(read_table(out)) == outcomes(reference)


def test_a_folder_races_as_its_run_does(run, reference, tmp_path):
    choice = ArchChoice(file=write_archs(tmp_path / "archs.txt", ARCHS))
    export_run(RunSubnets(run, BN), tmp_path / "subnets", choice=choice, n_verified=0)
    key, report = evaluate_folder(
        tmp_path / "subnets", tmp_path / "s.h5", device="cpu", options=ONE_WORKER, race=REAL
    )
    assert key == reference.key
    assert winners(report) == top(reference, ARCHS, 3)
    assert report.n_calibration_images == 0
    assert outcomes(read_table(tmp_path / "s.h5")).items() <= outcomes(reference).items()


class StoppedError(Exception):
    pass


def test_a_race_on_a_supernet_resumes(run, reference, tmp_path):
    def stop(n_done, n_at_most, note):
        if n_done > 8 * N_IMAGES:
            raise StoppedError

    out = tmp_path / "s.h5"
    listener = Listener(on_raced=stop)
    with pytest.raises(StoppedError):
        evaluate(run, out, ARCHS, options=ONE_WORKER, race=REAL, listener=listener)
    assert not (tmp_path / "s.race.json").exists()
    n_kept = len(read_table(out))
    assert 0 < n_kept < len(ARCHS)
    _, report = evaluate(run, out, ARCHS, options=ONE_WORKER, race=REAL)
    assert report.n_finished == n_kept
    assert winners(report) == top(reference, ARCHS, 3)
    assert outcomes(read_table(out)).items() <= outcomes(reference).items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bn": "batch"}, "--race scores images in another order, and in BatchNorm mode 'batch'"),
        ({"engine": "torch"}, "--race runs in ONNX Runtime, not on engine 'torch'"),
    ],
)
def test_where_no_race_is_possible_it_is_refused(run, tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        evaluate(run, tmp_path / "s.h5", ARCHS[:3], race=REAL, **options)
    assert not (tmp_path / "s.h5").exists()


def test_a_text_is_no_field_to_race_on():
    text = TextSet("ptb", "test", np.arange(9), 10)
    with pytest.raises(OptionError, match="--race is for images: the words of a text"):
        check_race(BatchNormMode("none"), text)


def command(run, archs, out, *more):
    return [
        *("evaluate", str(run.path), "--archs", str(archs), "--out", str(out), "--bn", BN),
        *("--device", "cpu", "--workers", "2", "--quiet", *more),
    ]


def test_the_command_races(run, reference, tmp_path, monkeypatch, capsys):
    archs = write_archs(tmp_path / "archs.txt", ARCHS)
    arguments = command(run, archs, tmp_path / "s.h5", "--race", "3")
    for more in (("--json",), ()):
        monkeypatch.setattr(sys, "argv", ["wsx", *arguments, *more])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert (end.value.code, captured.err) == (0, "")
        if more:
            facts = json.loads(captured.out)
            assert facts["race"]["k"] == 3
            found = [winner["text"] for winner in facts["race"]["winners"]]
            assert found == top(reference, ARCHS, 3)
            assert facts["race"] == json.loads((tmp_path / "s.race.json").read_text())
    assert "top 3" in captured.out
    monkeypatch.setattr(sys, "argv", ["wsx", *arguments[:-1], "0"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "the top must hold at least 1 arch, got 0" in capsys.readouterr().err


def test_a_killed_race_goes_on(run, reference, tmp_path):
    archs, out = write_archs(tmp_path / "archs.txt", ARCHS), tmp_path / "s.h5"
    arguments = [sys.executable, "-m", "wsx.cli", *command(run, archs, out, "--race", "3")]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    n_seen = 0
    while process.poll() is None and not n_seen:
        time.sleep(0.005)
        if out.exists():
            n_seen = len(read_table(out)) if open_store(out).keys() else 0
    process.kill()
    process.communicate()
    kept = outcomes(read_table(out))
    assert kept.items() <= outcomes(reference).items()
    done = subprocess.run([*arguments, "--json"], capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert facts["there already"] == len(kept)
    assert [w["text"] for w in facts["race"]["winners"]] == top(reference, ARCHS, 3)
