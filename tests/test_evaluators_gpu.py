import pytest
from small_run import BN, BN_MODES, N_IMAGES, small_run, some_archs

from wsx.evaluators.devices import CPU, cuda_problem, resolve_device
from wsx.evaluators.sources import SupernetSource
from wsx.studies.run_subnets import RunSubnets
from wsx.studies.scoring import ScoringOptions, onnx_engine

pytestmark = pytest.mark.gpu
ARCHS = some_archs(12, seed=1)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def cuda():
    problem = cuda_problem()
    if problem is not None:
        pytest.skip(f"no CUDA device: {problem}")
    return resolve_device("cuda")


def engine_on(subnets, device, batch_size):
    source = SupernetSource(subnets.recorder, "0" * 64, device, subnets.calibrator(device))
    return onnx_engine(source, subnets.dataset.test, device, ScoringOptions(batch_size))


@pytest.mark.parametrize("bn", BN_MODES)
def test_cuda_counts_equal_the_cpu_counts(run, cuda, bn):
    subnets = RunSubnets(run, bn)
    on_cpu, on_cuda = engine_on(subnets, CPU, 32), engine_on(subnets, cuda, 32)
    for arch in ARCHS:
        expected, found = on_cpu.score(arch)[0], on_cuda.score(arch)[0]
        assert found.correct == expected.correct
        assert found.outcomes.tolist() == expected.outcomes.tolist()
        assert found.loss_sum == pytest.approx(expected.loss_sum, rel=1e-4)


def test_the_batch_size_changes_no_count_on_cuda(run, cuda):
    subnets = RunSubnets(run, BN)
    engines = [engine_on(subnets, cuda, size) for size in (32, N_IMAGES, 1000)]
    for arch in ARCHS[:4]:
        hits = [engine.score(arch)[0].outcomes.tolist() for engine in engines]
        assert hits[0] == hits[1] == hits[2]


def test_auto_takes_cuda(cuda):
    assert resolve_device("auto") == cuda
