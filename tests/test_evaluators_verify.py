from dataclasses import replace

import numpy as np
import pytest
from small_run import BN, BN_MODES, small_run, some_archs, write_archs

from wsx.evaluators.devices import CPU, SessionFactory
from wsx.evaluators.verify import RELATIVE_TOLERANCE, EqualityGate, compare
from wsx.exporters.emit import emit_subnet
from wsx.exporters.folder import open_folder
from wsx.exporters.weights import WEIGHT_FILE
from wsx.spaces.choice import ArchChoice
from wsx.studies.export_run import export_run
from wsx.studies.run_subnets import RunSubnets

ARCHS = some_archs(3, seed=4, measure="reachable")


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


def exported(run, folder, bn=BN, **options):
    subnets = RunSubnets(run, bn)
    choice = ArchChoice(file=write_archs(folder.with_suffix(".txt"), ARCHS))
    return subnets, export_run(subnets, folder, choice=choice, **options)


def gate_of(subnets, weights):
    images = subnets.dataset.test.take(64)
    factory = SessionFactory(weights, CPU)
    calibrate = subnets.calibrator(CPU)
    return EqualityGate(subnets.oracle(), subnets.recorder, factory, images, calibrate)


@pytest.mark.parametrize("bn", BN_MODES)
def test_good_exports_agree(run, tmp_path, bn):
    _, result = exported(run, tmp_path / "subnets", bn, n_verified=None)
    assert len(result.agreements) == len(ARCHS)
    assert result.wrong == []
    for agreement in result.agreements:
        assert agreement.n_images == 64
        assert 0 < agreement.largest_difference < 2e-5 * agreement.scale


@pytest.mark.parametrize(("n_verified", "n_expected"), [(0, 0), (2, 2), (99, 3)])
def test_a_sample_is_verified(run, tmp_path, n_verified, n_expected):
    seen = []
    _, result = exported(
        run,
        tmp_path / "subnets",
        n_verified=n_verified,
        on_verified=lambda done, total: seen.append((done, total)),
    )
    assert len(result.agreements) == n_expected
    assert seen == [(i + 1, n_expected) for i in range(n_expected)]


def test_a_weight_that_changed_on_disk_is_found(run, tmp_path):
    subnets, result = exported(run, tmp_path / "subnets", n_verified=0)
    path = result.report.folder.path / WEIGHT_FILE
    place = subnets.recorder.weights["stem.0.weight"]
    content = np.fromfile(path, np.uint8)
    values = content[place.offset : place.offset + place.n_bytes].view(np.float32)
    values[0] += 0.5
    content.tofile(path)
    folder = open_folder(tmp_path / "subnets")
    gate = gate_of(subnets, folder.weights)
    for arch in ARCHS:
        assert not gate.check(arch, folder.read(arch)).is_equal


def broken_models(subnets, arch):
    graph = subnets.recorder.record(arch)
    statistics = subnets.calibrator(CPU)(graph)
    swapped = {digest: (variance, mean) for digest, (mean, variance) in statistics.items()}
    rolled = {d: (np.roll(mean, 1), variance) for d, (mean, variance) in statistics.items()}
    for broken in (swapped, rolled):
        yield emit_subnet(graph, subnets.recorder.weights, statistics=broken).SerializeToString()


def test_statistics_that_were_mixed_up_are_found(run):
    subnets = RunSubnets(run, BN)
    gate = gate_of(subnets, subnets.recorder.weights)
    for arch in ARCHS[:2]:
        for model in broken_models(subnets, arch):
            assert not gate.check(arch, model).is_equal


def test_the_model_of_another_arch_is_found(run, tmp_path):
    subnets, result = exported(run, tmp_path / "subnets", n_verified=0)
    folder = result.report.folder
    gate = gate_of(subnets, folder.weights)
    assert gate.check(ARCHS[0], folder.read(ARCHS[0])).is_equal
    assert not gate.check(ARCHS[0], folder.read(ARCHS[1])).is_equal


LOGITS = np.array([[1.0, 0.0, -2.0], [3.0, 2.0, 10.0], [0.5, 0.5, 0.0]], np.float32)


def test_equal_logits_agree():
    agreement = compare("a", [LOGITS, LOGITS.copy(), LOGITS.copy()])
    assert agreement.is_equal
    assert (agreement.n_wrong, agreement.n_near_ties, agreement.largest_difference) == (0, 0, 0.0)
    assert agreement.scale == 10.0


def test_near_ties_are_counted_and_no_failure():
    other = LOGITS.copy()
    # Row 2 ties: a rounding decides.
    other[2, 1] += 1e-5
    agreement = compare("a", [LOGITS, other, LOGITS])
    assert (agreement.n_near_ties, agreement.n_wrong) == (1, 0)
    assert agreement.is_equal


def test_a_near_tie_that_two_paths_decide_otherwise_counts_once():
    other = LOGITS.copy()
    other[2, 1] += 1e-5
    assert compare("a", [LOGITS, other, other]).n_near_ties == 1


def test_another_top_1_is_wrong_on_any_path():
    for place in (1, 2):
        paths = [LOGITS, LOGITS.copy(), LOGITS.copy()]
        paths[place][0] = [0.0, 1.0, -2.0]
        agreement = compare("a", paths)
        assert (agreement.n_wrong, agreement.n_near_ties) == (1, 0)
        assert not agreement.is_equal


def test_logits_that_drift_fail_with_equal_top_1():
    limit = RELATIVE_TOLERANCE * 10
    for shift, is_equal in ((0.5 * limit, True), (1.5 * limit, False)):
        agreement = compare("a", [LOGITS, LOGITS + np.float32(shift)])
        assert agreement.n_wrong == 0
        assert agreement.is_equal is is_equal


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_never_agree(place, value):
    paths = [LOGITS, LOGITS.copy(), LOGITS.copy()]
    paths[place] = LOGITS.copy()
    paths[place][1, 1] = value
    with np.errstate(invalid="ignore"):
        assert not compare("a", paths).is_equal


def test_an_agreement_within_tolerance_with_a_wrong_image_is_no_agreement():
    good = compare("a", [LOGITS, LOGITS])
    assert good.is_equal
    assert not replace(good, n_wrong=1).is_equal
