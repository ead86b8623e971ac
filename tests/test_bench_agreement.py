from dataclasses import replace

import pytest
import torch
from bench_subjects import CALIBRATED, N_IMAGES, as_counts, slow_counts, tiny_subject

from wsx.bench import loops, machine
from wsx.bench.agreement import Agreement, Reference
from wsx.bench.contenders import BASELINES, Contender
from wsx.bench.scoring import run_bench
from wsx.errors import WsxError

pytestmark = pytest.mark.slow


def planted(subject, *, errors, precision="float32"):
    """A baseline that is wrong by so many images."""

    def score(archs):
        right = dict(zip(subject.archs, slow_counts(subject), strict=True))
        return [right[arch] + n for arch, n in zip(archs, errors, strict=False)]

    return Contender("planted", "wrong on purpose", subject.mode, 32, score, precision)


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch):
    monkeypatch.setitem(machine.MATRIX_SIDE, "cpu", 16)


@pytest.fixture(scope="module")
def subject():
    return tiny_subject(CALIBRATED)


@pytest.mark.parametrize("bn", [CALIBRATED, "running", "batch"])
def test_equal_counts_agree(bn):
    subject = tiny_subject(bn)
    found = Reference(subject).check(
        planted(subject, errors=[0, 0, 0]), as_counts(subject, slow_counts(subject))
    )
    assert found == Agreement(3, 3, 0)
    assert str(found) == "3 of 3"


def test_a_baseline_in_another_mode_is_compared_with_wsx_in_that_mode(subject):
    (b1,) = loops.b1(subject)
    counts = as_counts(subject, b1.score(subject.archs))
    # The modes differ here, so that a comparison with the wrong one would show.
    assert list(counts.values()) != slow_counts(subject)
    assert Reference(subject).check(b1, counts) == Agreement(3, 3, 0)
    with pytest.raises(WsxError, match="baseline b1 counts"):
        Reference(subject).check(replace(b1, mode=subject.mode), counts)


def test_a_wrong_count_is_an_error_that_names_the_arch(subject):
    contender = planted(subject, errors=[0, 1, 0])
    counts = as_counts(subject, contender.score(subject.archs))
    text = subject.supernet.space.format(subject.archs[1])
    with pytest.raises(WsxError) as caught:
        Reference(subject).check(contender, counts)
    assert text in str(caught.value)
    assert "0 are near-ties" in str(caught.value)


def test_images_with_two_equal_best_logits_may_be_counted_either_way():
    subject = tiny_subject("running")
    with torch.no_grad():
        subject.supernet.classifier.weight.zero_()
        subject.supernet.classifier.bias.zero_()
    contender = planted(subject, errors=[2, 0, 1])
    counts = as_counts(subject, contender.score(subject.archs))
    found = Reference(subject).check(contender, counts)
    assert found == Agreement(3, 1, 3)
    assert str(found) == "1 of 3, 3 near-ties"
    too_many = {arch: n + N_IMAGES for arch, n in counts.items()}
    with pytest.raises(WsxError, match=f"{N_IMAGES} are near-ties"):
        Reference(subject).check(contender, too_many)


def test_another_precision_may_differ_and_is_reported(subject):
    contender = planted(subject, errors=[1, 0, 5], precision="bfloat16")
    counts = as_counts(subject, contender.score(subject.archs))
    assert Reference(subject).check(contender, counts) == Agreement(3, 1, 6)


def test_wsx_that_contradicts_itself_is_an_error(subject):
    reference, contender = Reference(subject), planted(subject, errors=[0, 0, 0])
    counts = as_counts(subject, slow_counts(subject))
    reference.learn(contender, counts)
    reference.learn(contender, counts)
    with pytest.raises(WsxError, match="images of"):
        reference.learn(contender, {arch: n + 1 for arch, n in counts.items()})


def test_a_planted_baseline_is_caught_before_anything_is_timed(subject, monkeypatch):
    wrong = planted(subject, errors=[0, 1, 0])
    monkeypatch.setitem(BASELINES._entries, "planted", lambda _: [wrong])
    monkeypatch.setattr(
        "wsx.bench.measurement.interleave", lambda *_: pytest.fail("the measurement began")
    )
    with pytest.raises(WsxError, match="baseline planted counts"):
        run_bench(subject, ["planted"], n_repeats=1)


def test_a_baseline_that_goes_wrong_later_is_caught_too(subject, monkeypatch):
    right, calls = as_counts(subject, slow_counts(subject)), []

    def score(archs):
        calls.append(len(archs))
        return [right[arch] + (len(calls) == 3) for arch in archs]

    late = Contender("late", "wrong in the second repeat", subject.mode, 32, score)
    monkeypatch.setitem(BASELINES._entries, "late", lambda _: [late])
    with pytest.raises(WsxError, match="baseline late counts"):
        run_bench(subject, ["late"], n_repeats=2)
    assert calls == [2, 3, 3]
