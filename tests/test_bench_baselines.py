from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from bench_subjects import BATCH_SIZE, CALIBRATED, N_IMAGES, TINY, slow_counts, tiny_subject
from own_spaces import ToyNet, isolated_registries, toy_space
from torch import nn

from wsx.bench import exported, loops, tuned
from wsx.bench.contenders import BASELINES, NotComparableError, all_cores
from wsx.bench.own import OwnPath
from wsx.bench.pil import PilImages, pil_batches
from wsx.bench.subject import random_images
from wsx.bench.subnets import can_run_in_place, extracting_maker, fold_norms
from wsx.bench.tuned import EXTRACTED, FOLDED, IN_PLACE, EagerSettings, TunedLoop
from wsx.data import load_data
from wsx.exporters.batchnorm import BatchNormMode
from wsx.supernets import supernet_of

pytestmark = pytest.mark.slow

MODES = (CALIBRATED, "running", "batch")


@pytest.fixture(scope="module", params=MODES)
def subject(request):
    return tiny_subject(request.param)


@pytest.fixture(scope="module")
def expected(subject):
    counts = slow_counts(subject)
    # Unequal subnets score unequally, or equality would mean little.
    assert len(set(counts)) > 1
    return counts


@pytest.mark.parametrize("make", [loops.p1, loops.b4], ids=["p1", "b4"])
def test_published_loops_count_as_the_oracle_does(subject, expected, make):
    (contender,) = make(subject)
    assert contender.mode == subject.mode
    assert contender.score(subject.archs) == expected
    # What one arch left behind would show in the order.
    assert contender.score(subject.archs[::-1]) == expected[::-1]


def test_b1_scores_with_batch_statistics_whatever_the_mode(subject):
    (contender,) = loops.b1(subject)
    batch_size = BATCH_SIZE if subject.mode.kind == "batch" else loops.B1_BATCH_SIZE
    assert (str(contender.mode), contender.batch_size) == ("batch", batch_size)
    mode = BatchNormMode("batch")
    assert contender.score(subject.archs) == slow_counts(subject, mode, batch_size)


SETTINGS = {
    "extracted": EagerSettings(BATCH_SIZE),
    "folded": EagerSettings(BATCH_SIZE, form=FOLDED),
    "in the supernet": EagerSettings(BATCH_SIZE, form=IN_PLACE),
    "a thread per subnet": EagerSettings(BATCH_SIZE, n_workers=2, form=IN_PLACE),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=list(SETTINGS))
def test_the_tuned_loop_counts_as_the_oracle_does(subject, expected, settings):
    assert TunedLoop(subject, settings).score(subject.archs) == expected


def test_wsx_counts_as_the_oracle_does(subject, expected):
    own = OwnPath(subject)
    assert own.score(subject.archs) == expected
    assert own.score(subject.archs[::-1]) == expected[::-1]


def test_exported_files_count_as_the_oracle_does(subject, expected):
    if subject.mode.kind == "batch":
        with pytest.raises(NotComparableError, match="no mode batch"):
            exported.b8(subject)
        return
    (contender,) = exported.b8(subject)
    assert contender.score(subject.archs) == expected


def test_files_of_the_default_exporter_count_as_the_oracle_does():
    subject = tiny_subject("running", n_archs=1)
    (contender,) = exported.b8_dynamo(subject)
    assert contender.score(subject.archs) == slow_counts(subject)


@pytest.mark.parametrize("bn", [CALIBRATED, "batch"])
@pytest.mark.parametrize("make", [loops.b1, loops.p1, loops.b4], ids=["b1", "p1", "b4"])
def test_supernets_that_track_no_statistics_are_scored(bn, make):
    subject = tiny_subject(bn, options=TINY | {"tracks_statistics": False})
    (contender,) = make(subject)
    counts = slow_counts(subject, contender.mode, contender.batch_size)
    assert contender.score(subject.archs) == counts


@pytest.fixture
def sliced_subject():
    """Makes a subject whose archs use the first channels of one norm layer."""
    with isolated_registries():
        supernet_of(toy_space())(ToyNet)
        options = {"n_classes": 3, "in_channels": 3, "image_size": 6}
        yield partial(tiny_subject, space="toy", options=options, n_archs=8)


@pytest.mark.parametrize("bn", MODES)
def test_supernets_that_slice_norms_are_scored(sliced_subject, bn):
    subject = sliced_subject(bn)
    assert can_run_in_place(subject) is (bn != CALIBRATED)
    form = EXTRACTED if bn == CALIBRATED else IN_PLACE
    tuned_counts = TunedLoop(subject, EagerSettings(BATCH_SIZE, form=form)).score(subject.archs)
    assert tuned_counts == slow_counts(subject)
    for make in (loops.b1, loops.p1, loops.b4):
        (contender,) = make(subject)
        counts = slow_counts(subject, contender.mode, contender.batch_size)
        assert contender.score(subject.archs) == counts


@pytest.mark.parametrize("name", ["b1", "p1", "b4", "t1"])
def test_baselines_leave_the_supernet_and_the_threads_as_they_are(name, monkeypatch):
    monkeypatch.setattr(tuned, "search", lambda subject: EagerSettings(BATCH_SIZE, 2))
    subject = tiny_subject(CALIBRATED)
    before = {key: t.clone() for key, t in subject.supernet.state_dict().items()}
    n_threads = torch.get_num_threads()
    with all_cores(1):
        for contender in BASELINES[name](subject):
            contender.score(subject.archs)
    assert torch.get_num_threads() == n_threads
    after = subject.supernet.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_fused_calibration_measures_what_hooks_measure():
    subject = tiny_subject(CALIBRATED)
    module = extracting_maker(subject)(subject.archs[0])
    x = torch.from_numpy(subject.train.floats())
    inputs: dict[str, list[torch.Tensor]] = {}
    slow = extracting_maker(subject)(subject.archs[0]).double()
    for name, layer in slow.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
            layer.train()
            layer.register_forward_pre_hook(
                lambda _, args, name=name: inputs.setdefault(name, []).append(args[0])
            )
    with torch.no_grad():
        for start in (0, 16):
            slow(x[start : start + 16].double())
    found = dict(module.named_modules())
    assert inputs
    for name, batches in inputs.items():
        mean = torch.stack([b.mean((0, 2, 3)) for b in batches]).mean(0)
        var = torch.stack([b.var((0, 2, 3), unbiased=False) for b in batches]).mean(0)
        torch.testing.assert_close(found[name].running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[name].running_var.double(), var, rtol=1e-4, atol=1e-5)


def test_folding_leaves_no_layer_behind_a_convolution_and_the_same_logits():
    subject = tiny_subject("running")
    x = torch.from_numpy(subject.images.floats())
    for arch in subject.archs:
        module = extracting_maker(subject)(arch)
        with torch.no_grad():
            before = module(x)
            fold_norms(module)
            after = module(x)
        used = [str(node.target) for node in module.graph.nodes if node.op == "call_module"]
        kinds = [type(module.get_submodule(name)) for name in used]
        # The last layer of the macro follows a sum.
        assert kinds.count(nn.BatchNorm2d) == 1
        torch.testing.assert_close(after, before, rtol=0, atol=1e-4 * float(before.abs().max()))


def test_the_search_takes_what_was_fastest(monkeypatch):
    subject = tiny_subject("running")
    sizes = {16: 5.0, 32: 2.0, 64: 3.0, N_IMAGES: 4.0}
    seconds = {EagerSettings(size, form=IN_PLACE): s for size, s in sizes.items()} | {
        EagerSettings(32): 1.7,
        EagerSettings(32, form=FOLDED): 1.5,
        EagerSettings(32, form=FOLDED, is_bfloat16=True): 1.45,
    }
    monkeypatch.setattr(
        tuned, "seconds_per_arch", lambda _, some, calibrates=True: {s: seconds[s] for s in some}
    )
    assert tuned.search(subject) == EagerSettings(32, form=FOLDED)
    # Not enough faster for a row of its own.
    assert [c.name for c in tuned.t1(subject)] == ["t1"]
    seconds[EagerSettings(32, form=FOLDED, is_bfloat16=True)] = 1.0
    assert [(c.name, c.precision) for c in tuned.t1(subject)] == [
        ("t1", "float32"),
        ("t1-bf16", "bfloat16"),
    ]


def test_both_thread_layouts_are_tried_and_no_other_batch_where_it_decides(monkeypatch):
    tried = []

    def seconds_per_arch(subject, settings, calibrates=True):
        tried.extend(settings)
        return dict.fromkeys(settings, 1.0)

    monkeypatch.setattr(tuned, "seconds_per_arch", seconds_per_arch)
    tuned.search(replace(tiny_subject("batch"), n_workers=2))
    expected = {
        EagerSettings(BATCH_SIZE, n, form) for n in (1, 2) for form in (IN_PLACE, EXTRACTED)
    }
    assert set(tried) == expected


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 9)])
def test_pictures_become_the_tensors_that_images_have(shape):
    images = random_images(10, 0, shape=shape)
    batches = list(pil_batches(images, 4))
    assert [len(x) for x, _ in batches] == [4, 4, 2]
    np.testing.assert_allclose(
        torch.cat([x for x, _ in batches]), images.floats(), rtol=0, atol=1e-6
    )
    assert torch.cat([labels for _, labels in batches]).tolist() == images.labels.tolist()


def test_augmented_pictures_are_crops_of_padded_ones():
    images = random_images(20, 0, shape=(3, 5, 5))
    augmented = PilImages(images, crop_padding=1, flips=True, rng=np.random.default_rng(0))
    black = (0 - np.array(images.mean)) / np.array(images.std)
    seen = set()
    for i in range(20):
        x, label = augmented[i]
        padded = np.full((3, 7, 7), black[:, None, None], np.float32)
        padded[:, 1:6, 1:6] = images.floats(i, i + 1)[0]
        crops = {
            (t, left): padded[:, t : t + 5, left : left + 5] for t in range(3) for left in range(3)
        }
        matches = [
            (place, flip)
            for place, crop in crops.items()
            for flip in (False, True)
            if np.allclose(crop[:, :, ::-1] if flip else crop, x, rtol=0, atol=1e-5)
        ]
        assert len(matches) == 1
        assert label == images.labels[i]
        seen.update(matches)
    assert {flip for _, flip in seen} == {False, True}
    assert len({place for place, _ in seen}) > 4


def test_digits_pass_through_pictures():
    images = load_data("digits", n_train=20, n_valid=5, n_test=5).test
    x = torch.stack([PilImages(images)[i][0] for i in range(5)])
    np.testing.assert_allclose(x, images.floats(), rtol=0, atol=1e-6)
