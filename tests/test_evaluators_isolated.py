from concurrent.futures import ThreadPoolExecutor

import pytest
from isolated_engines import OpenPids

from wsx.errors import DeviceError, ExportError
from wsx.evaluators.isolated import IsolatedEngine


@pytest.fixture
def opener(tmp_path):
    return OpenPids(tmp_path)


def opened(opener):
    return (opener.folder / "opened").read_text().split()


@pytest.mark.slow
def test_each_process_opens_one_engine_and_is_replaced(opener):
    with IsolatedEngine([opener], "pids", n_subnets=3) as engine:
        pids = [engine.score((0, i))[0].correct for i in range(7)]
        tally, timing = engine.score((0, 8))
    assert [len(set(pids[start : start + 3])) for start in (0, 3)] == [1, 1]
    assert len(set(pids)) == 3
    assert opened(opener) == [str(pid) for pid in dict.fromkeys(pids)]
    assert (tally.loss_sum, tally.outcomes.tolist(), timing) == (
        8.0,
        [True, True],
        {"record": 0, "calibrate": 0, "build": 0, "run": 1},
    )


def test_processes_work_side_by_side(opener):
    with (
        IsolatedEngine([opener, opener], "pids") as engine,
        ThreadPoolExecutor(engine.n_processes) as executor,
    ):
        found = list(executor.map(engine.score, [(0, i) for i in range(12)]))
        together = engine.score_together([(0, 3), (0, 4)])
    assert [tally.loss_sum for tally, _ in found] == list(range(12))
    assert [tally.loss_sum for tally, _ in together] == [3.0, 4.0]
    assert len(set(opened(opener))) == 2


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_the_subnet_scored_again(opener):
    with IsolatedEngine([opener], "pids") as engine:
        before = engine.score((0, 1))[0].correct
        assert engine.score((3, 5))[0].loss_sum == 5.0
        assert engine.score((0, 1))[0].correct != before
    assert len(opened(opener)) == 2


@pytest.mark.slow
def test_a_subnet_that_kills_every_process_is_an_error_of_its_own(opener):
    with IsolatedEngine([opener], "pids") as engine:
        with pytest.raises(DeviceError, match="2 worker processes died over this subnet"):
            engine.score((2, 0))
        assert engine.score((0, 6))[0].loss_sum == 6.0


def test_what_an_engine_raises_arrives_as_it_was(opener):
    with IsolatedEngine([opener], "pids") as engine:
        with pytest.raises(ExportError, match=r"no such subnet: \(1, 0\)"):
            engine.score((1, 0))
        first = engine.score((0, 0))[0].correct
        with pytest.raises(ExportError, match="no such subnet"):
            engine.score_together([(0, 1), (1, 0)])
        # An error is no death: the process goes on.
        assert engine.score((0, 0))[0].correct == first


def test_an_engine_that_does_not_open_is_the_error_of_each_subnet(opener):
    (opener.folder / "broken").touch()
    with IsolatedEngine([opener], "pids") as engine:
        for _ in range(2):
            with pytest.raises(ExportError, match="the checkpoint is gone"):
                engine.score((0, 0))
        (opener.folder / "broken").unlink()
        assert engine.score((0, 2))[0].loss_sum == 2.0


def test_closing_twice_and_unused_is_allowed(opener):
    engine = IsolatedEngine([opener], "pids")
    engine.close()
    engine.close()
