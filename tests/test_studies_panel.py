from dataclasses import replace

import numpy as np
import pytest
from test_store_samples import make_failed, make_key, make_score

from wsx.errors import ShapeError, StoreError, StoreKeyError
from wsx.store import HDF5Store, MemoryStore
from wsx.studies.panel import read_panel

N_IMAGES = 11
IDS = np.arange(50, 50 + N_IMAGES)
ARCHS = [(2, 0), (0, 1), (1, 1), (0, 0)]
SORTED = ("0|0", "0|1", "1|1", "2|0")
STEPS = {"step-0000003": 3, "epoch-0001": 5, "epoch-0002": 10}
SEEDS = (7, 0)


def sha(*parts):
    return "/".join(map(str, parts)).ljust(64, ".")


def info(seed, checkpoint, **more):
    facts = {
        "run": f"run-{seed}",
        "run_seed": seed,
        "run_config": {"seed": seed, "recipe": {"order": "fixed"}},
        "checkpoint": checkpoint,
        "step": STEPS[checkpoint],
        "epoch": STEPS[checkpoint] // 5,
    }
    return {**facts, **more}


def outcomes_of(seed, checkpoint, arch):
    """Return the planted outcomes of one cell, (image,)."""
    rng = np.random.default_rng([seed, STEPS[checkpoint], *arch])
    return rng.random(N_IMAGES) < 0.5


def planted_score(seed, checkpoint, arch, **changes):
    outcomes = outcomes_of(seed, checkpoint, arch)
    planted = {
        "correct": int(outcomes.sum()),
        "bits": np.packbits(outcomes).tobytes(),
        "loss_sum": seed + STEPS[checkpoint] / 100 + arch[0] / 1000,
        "params": 10 * arch[0] + arch[1],
    }
    return make_score(arch, N_IMAGES, **{**planted, **changes})


def fill(store, seed, checkpoint, archs=ARCHS, *, changes=None, **more):
    key = make_key(checkpoint_sha256=sha(seed, checkpoint), **(changes or {}))
    campaign = store.campaign(key, image_ids=IDS, info=info(seed, checkpoint, **more))
    campaign.append([planted_score(seed, checkpoint, arch) for arch in archs])
    return campaign


def planted(store):
    # Neither runs, checkpoints nor archs arrive in order.
    for n, (checkpoint, seed) in enumerate((c, s) for c in reversed(STEPS) for s in SEEDS):
        fill(store, seed, checkpoint, ARCHS[n % 4 :] + ARCHS[: n % 4])
    return store


@pytest.fixture(params=["memory", "file"])
def scores(request, tmp_path):
    if request.param == "memory":
        return planted(MemoryStore())
    with HDF5Store(tmp_path / "s.h5", "a", fold_rows=7) as store:
        planted(store)
    return tmp_path / "s.h5"


def test_planted_cells_come_back_in_their_places(scores):
    panel = read_panel(scores, has_outcomes=True)
    assert (panel.runs, panel.seeds.tolist()) == (("run-0", "run-7"), [0, 7])
    assert panel.checkpoints == tuple(STEPS)
    assert panel.steps.tolist() == [[3, 5, 10]] * 2
    assert panel.epochs.tolist() == [[0, 1, 2]] * 2
    assert panel.n_batches.tolist() == [0, 0, 0]
    assert panel.archs == SORTED
    assert panel.decisions.tolist() == [[0, 0], [0, 1], [1, 1], [2, 0]]
    assert panel.params.tolist() == [0, 1, 11, 20]
    assert panel.image_ids.tolist() == IDS.tolist()
    assert [config["seed"] for config in panel.configs] == [0, 7]
    outcomes = panel.outcomes()
    assert outcomes.shape == (2, 3, 4, N_IMAGES)
    for r, seed in enumerate(panel.seeds.tolist()):
        for c, checkpoint in enumerate(panel.checkpoints):
            for a, arch in enumerate(sorted(ARCHS)):
                expected = outcomes_of(seed, checkpoint, arch)
                assert np.array_equal(outcomes[r, c, a], expected)
                assert panel.correct[r, c, a] == expected.sum()
                assert panel.accuracy[r, c, a] == expected.sum() / N_IMAGES
                loss_sum = planted_score(seed, checkpoint, arch).loss_sum
                assert panel.loss_sum[r, c, a] == loss_sum
                assert panel.loss[r, c, a] == loss_sum / N_IMAGES
    assert (panel.total == N_IMAGES).all()
    # Were they all the same, no place could be mixed up.
    assert len({row.tobytes() for row in outcomes.reshape(-1, N_IMAGES)}) == 24


def test_without_outcomes_none_are_kept(scores):
    panel = read_panel(scores)
    assert panel.bits is None
    with pytest.raises(ShapeError, match="has_outcomes=True"):
        panel.outcomes()


def test_archs_may_be_chosen_in_an_order(scores):
    panel = read_panel(scores, archs=["2|0", "0|1"])
    assert panel.archs == ("2|0", "0|1")
    assert np.array_equal(panel.correct, read_panel(scores).correct[:, :, [3, 1]])
    with pytest.raises(StoreError, match=r"no campaign holds 1 archs, such as 9\|9"):
        read_panel(scores, archs=["0|1", "9|9"])


def test_missing_campaigns_and_rows_are_named():
    store = MemoryStore()
    fill(store, 0, "epoch-0001")
    fill(store, 0, "epoch-0002", ARCHS[1:])
    fill(store, 7, "epoch-0002")
    store.campaign(
        make_key(checkpoint_sha256=sha(7, "epoch-0002")),
        image_ids=IDS,
        info=info(7, "epoch-0002"),
    ).append([make_failed((0, 1), "ExportError: no emitter", text="0|1")])
    with pytest.raises(StoreError) as caught:
        read_panel(store)
    message = str(caught.value)
    assert "6 of 16 scores are missing" in message
    assert "run-0 epoch-0002 2|0 (not scored)" in message
    assert "run-7 epoch-0001 0|0 (no campaign)" in message
    panel = read_panel(store, has_gaps=True, has_outcomes=True)
    is_missing = np.zeros((2, 2, 4), dtype=bool)
    is_missing[0, 1, 3] = is_missing[1, 0] = is_missing[1, 1, 1] = True
    assert np.array_equal(panel.total == 0, is_missing)
    assert np.array_equal(np.isnan(panel.accuracy), is_missing)
    assert np.array_equal(np.isnan(panel.loss), is_missing)
    assert not panel.outcomes()[is_missing].any()
    assert panel.steps.tolist() == [[5, 10], [-1, 10]]
    with pytest.raises(StoreError, match=r"0\|1 \(failed: ExportError: no emitter\)"):
        read_panel(store, archs=["0|1"], keeps=lambda key, facts: facts["run_seed"] == 7)


def test_a_loss_that_is_not_finite_is_a_gap():
    store = MemoryStore()
    campaign = fill(store, 0, "epoch-0001")
    campaign.append([planted_score(0, "epoch-0001", (0, 0), status="not-finite", loss_sum=np.nan)])
    with pytest.raises(StoreError, match=r"1 of 4 .* run-0 epoch-0001 0\|0 \(not-finite: \)"):
        read_panel(store)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bn": "running"}, "bn: 'calibrated:4x256' != 'running'"),
        ({"images_sha256": "d" * 64}, "images_sha256: "),
        ({"dataset": "cifar10"}, "dataset: 'digits' != 'cifar10'"),
        ({"batch_size": 10}, "batch_size: 0 != 10"),
    ],
)
def test_campaigns_of_several_kinds_are_refused_until_one_is_kept(changes, told):
    store = planted(MemoryStore())
    fill(store, 0, "epoch-0001", ARCHS[:1], changes=changes)
    with pytest.raises(StoreKeyError, match="differ in more than the checkpoint") as caught:
        read_panel(store)
    assert told in str(caught.value)
    assert "checkpoint_sha256" not in str(caught.value)
    kept = read_panel(
        store, keeps=lambda key, facts: all(getattr(key, n) != v for n, v in changes.items())
    )
    assert kept.correct.shape == (2, 3, 4)


def test_other_images_under_one_digest_are_refused():
    store = MemoryStore()
    fill(store, 0, "epoch-0001")
    key = make_key(checkpoint_sha256=sha("other"))
    store.campaign(key, image_ids=IDS + 1, info=info(0, "epoch-0002"))
    with pytest.raises(StoreKeyError, match="image_ids"):
        read_panel(store)


def test_one_run_with_two_weights_at_a_checkpoint_is_refused():
    store = planted(MemoryStore())
    key = make_key(checkpoint_sha256=sha("trained again"))
    store.campaign(key, image_ids=IDS, info=info(0, "epoch-0001", run="copy"))
    with pytest.raises(StoreError, match=r"both of .* epoch-0001, with other weights"):
        read_panel(store)


def test_runs_of_one_seed_are_told_apart_by_what_determined_them():
    store = MemoryStore()
    for order in ("fixed", "shuffled"):
        config = {"seed": 0, "recipe": {"order": order}}
        key = make_key(checkpoint_sha256=sha(order))
        facts = info(0, "epoch-0001", run_config=config, run=order)
        store.campaign(key, image_ids=IDS, info=facts).append([make_score((0, 1))])
    panel = read_panel(store)
    assert panel.runs == ("fixed", "shuffled")
    assert [config["recipe"]["order"] for config in panel.configs] == ["fixed", "shuffled"]
    assert panel.total.shape == (2, 1, 1)


def test_a_campaign_that_does_not_say_where_it_is_from_is_named_until_it_is_continued():
    store = MemoryStore()
    key = make_key()
    store.campaign(key, image_ids=IDS, info={"run_seed": 0, "checkpoint": "epoch-0001"}).append(
        [make_score((0, 1))]
    )
    with pytest.raises(StoreError, match="does not say its run, run_config, step, epoch"):
        read_panel(store)
    store.campaign(key, image_ids=IDS, info=info(0, "epoch-0001"))
    assert read_panel(store).runs == ("run-0",)


def tuned(store, seed, checkpoint, n, **settings):
    facts = {
        "n_batches": n,
        "checkpoint_sha256": sha(seed, checkpoint),
        "lr": 0.1,
        "seed": 0,
        "momentum": "fresh",
        **settings,
    }
    key = make_key(checkpoint_sha256=sha(seed, checkpoint, n, settings))
    campaign = store.campaign(key, image_ids=IDS, info=info(seed, checkpoint, finetune=facts))
    rows = [planted_score(seed, checkpoint, arch) for arch in ARCHS]
    campaign.append([replace(row, loss_sum=row.loss_sum + n) for row in rows])


def test_fine_tuned_subnets_are_apart_and_follow_their_checkpoint():
    store = planted(MemoryStore())
    plain = read_panel(store)
    for n in (16, 2):
        for checkpoint in ("epoch-0001", "epoch-0002"):
            tuned(store, 0, checkpoint, n)
    assert np.array_equal(read_panel(store).loss_sum, plain.loss_sum)
    panel = read_panel(store, is_finetuned=True)
    assert panel.checkpoints == (
        *("epoch-0001", "epoch-0001+2", "epoch-0001+16"),
        *("epoch-0002", "epoch-0002+2", "epoch-0002+16"),
    )
    assert panel.n_batches.tolist() == [0, 2, 16] * 2
    assert panel.runs == ("run-0",)
    gained = panel.loss_sum - plain.loss_sum[:1, [1, 1, 1, 2, 2, 2]]
    np.testing.assert_allclose(gained[0], [[n] * 4 for n in (0, 2, 16) * 2], rtol=1e-12)


def test_subnets_fine_tuned_in_several_ways_do_not_mix():
    store = planted(MemoryStore())
    tuned(store, 0, "epoch-0001", 2)
    tuned(store, 0, "epoch-0001", 4, lr=0.5)
    with pytest.raises(StoreKeyError, match=r"lr 0.1, seed 0, momentum fresh; lr 0.5"):
        read_panel(store, is_finetuned=True)
    panel = read_panel(
        store,
        is_finetuned=True,
        keeps=lambda key, facts: facts.get("finetune", {"lr": 0.5})["lr"] == 0.5,
    )
    assert panel.checkpoints == ("epoch-0001", "epoch-0001+4")


def test_nothing_to_read_is_said():
    with pytest.raises(StoreError, match="no campaign of checkpoints among 0"):
        read_panel(MemoryStore())
    with pytest.raises(StoreError, match="no campaign of fine-tuned subnets among 6"):
        read_panel(planted(MemoryStore()), is_finetuned=True)
