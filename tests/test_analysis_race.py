import numpy as np
import pytest
from scipy import stats

from wsx.analysis import race as race_module
from wsx.analysis.race import RaceRules, run_race
from wsx.analysis.race_estimate import estimate_correct, n_controls, order_images
from wsx.errors import OptionError, ShapeError


def planted(n_archs, n_images, *, seed, spread=0.6):
    """Outcomes (arch, image): abilities against difficulties, and what is each pair's own."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(0, spread, (n_archs, 1))
    own = rng.normal(0, 0.7, (n_archs, n_images))
    return ability + own > rng.normal(0, 1.5, n_images)


class Watched:
    """Answers from a table, keeps a log, and refuses to run an image of an arch twice."""

    def __init__(self, outcomes, *, broken=(), known=()):
        self.outcomes, self.broken = outcomes, list(broken)
        self.seen = np.zeros(outcomes.shape, dtype=bool)
        self.known = list(known)

    def __call__(self, archs, images):
        asked = np.ix_(archs, images)
        assert not self.seen[asked].any()
        self.seen[asked] = True
        return self.outcomes[asked], ~np.isin(archs, self.broken)

    @property
    def n_evaluations(self):
        rows = np.setdiff1d(np.arange(len(self.seen)), self.known)
        return int(self.seen[rows].sum())


def race(outcomes, rules, *, n_each=None, **more):
    watched = Watched(outcomes, broken=more.pop("broken", ()), known=more.get("known", ()))
    n_each = np.ones(len(outcomes), dtype=int) if n_each is None else n_each
    result = run_race(n_each, outcomes.shape[1], rules, watched, **more)
    assert result.n_evaluations == watched.n_evaluations
    return result


def top(outcomes, k):
    return np.argsort(-outcomes.sum(axis=1), kind="stable")[:k]


# The estimate


def slow_estimate(seen, order, strata, references):
    """The same from its definition: a refit without each image, stratum by stratum."""
    prefix, n_images = order[: seen.shape[1]], order.size
    x = np.column_stack([np.ones(n_images), references.T])
    sizes = {h: int((strata == h).sum()) for h in set(strata.tolist())}
    taken = {h: int((strata[prefix] == h).sum()) for h in sizes}
    root = np.array([np.sqrt(sizes[h] / taken[h]) for h in strata[prefix]])
    totals, errors = [], []
    for row in seen.astype(float):
        slope = np.linalg.lstsq(x[prefix] * root[:, None], row * root, rcond=None)[0]
        left_out = []
        for i in range(prefix.size):
            others = np.delete(np.arange(prefix.size), i)
            fit = np.linalg.lstsq(
                x[prefix][others] * root[others, None], row[others] * root[others], rcond=None
            )[0]
            left_out.append(row[i] - x[prefix][i] @ fit)
        total, variance = sum(float(values @ slope) for values in x), 0.0
        for h, size in sizes.items():
            members = [i for i in range(prefix.size) if strata[prefix][i] == h]
            total += size * np.mean([row[i] - x[prefix][i] @ slope for i in members])
            spread = np.var([left_out[i] for i in members], ddof=1)
            variance += size**2 * (1 - taken[h] / size) * spread / taken[h]
        totals.append(total)
        errors.append(np.sqrt(variance))
    return np.array(totals), np.array(errors)


def test_the_estimate_is_what_its_definition_says():
    outcomes = planted(9, 150, seed=0)
    references = outcomes[:4]
    order, strata = order_images(references, np.random.default_rng(1))
    seen = outcomes[4:][:, order[:60]]
    total, error = estimate_correct(seen, order, strata, references)
    slow_total, slow_error = slow_estimate(seen, order, strata, references)
    np.testing.assert_allclose(total, slow_total, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(error, slow_error, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("n_references", [0, 1, 6])
def test_the_estimate_is_exact_once_all_images_are_seen(n_references):
    outcomes = planted(12, 200, seed=2)
    references = outcomes[:n_references]
    order, strata = order_images(references, np.random.default_rng(0))
    total, error = estimate_correct(outcomes[:, order], order, strata, references)
    np.testing.assert_allclose(total, outcomes.sum(axis=1), rtol=0, atol=1e-8)
    assert error.tolist() == [0.0] * 12


def z_scores(outcomes, references, n_seen, n_orders):
    rows = []
    for seed in range(n_orders):
        order, strata = order_images(references, np.random.default_rng(seed))
        total, error = estimate_correct(outcomes[:, order[:n_seen]], order, strata, references)
        rows.append((total - outcomes.sum(axis=1)) / error)
    return np.array(rows)


@pytest.mark.parametrize("n_seen", [100, 300, 700])
def test_errors_are_as_large_as_they_say(n_seen):
    outcomes = planted(70, 1000, seed=3)
    references, others = outcomes[:10], outcomes[10:]
    z = z_scores(others, references, n_seen, 150)
    # Of 150 orders, whose estimates are shared by no two: five standard errors of mean and spread.
    assert np.abs(z.mean()) < 5 / np.sqrt(150)
    assert 0.85 < z.std() < 1.1
    # What the race uses is the far end; a normal has 0.135 % beyond 3.
    assert (z < -3).mean() < 0.004


def test_comparing_with_references_beats_counting_alone():
    outcomes = planted(70, 1000, seed=4)
    references, others = outcomes[:10], outcomes[10:]
    rng = np.random.default_rng(0)
    order, strata = order_images(references, rng)
    _, paired = estimate_correct(others[:, order[:300]], order, strata, references)
    nobody = outcomes[:0]
    plain, one = order_images(nobody, rng)
    assert set(one.tolist()) == {0}
    _, alone = estimate_correct(others[:, plain[:300]], plain, one, nobody)
    expected = 1000 * others[:, plain[:300]].std(axis=1, ddof=1) * np.sqrt(0.7 / 300)
    np.testing.assert_allclose(alone, expected, rtol=0.01)
    # Errors go with the square root of the images: this is less than half of them.
    assert np.median(paired / alone) < 0.7


def test_an_arch_that_equals_a_reference_has_no_error():
    outcomes = planted(6, 400, seed=5)
    order, strata = order_images(outcomes, np.random.default_rng(0))
    total, error = estimate_correct(outcomes[2:3, order[:80]], order, strata, outcomes)
    np.testing.assert_allclose(total, outcomes[2].sum(), rtol=0, atol=1e-7)
    np.testing.assert_allclose(error, 0, rtol=0, atol=1e-7)


def test_many_archs_are_estimated_as_few_are():
    outcomes = planted(2100, 64, seed=6)
    order, strata = order_images(outcomes[:5], np.random.default_rng(0))
    seen = outcomes[:, order[:40]]
    total, error = estimate_correct(seen, order, strata, outcomes[:5])
    for row in (0, 1023, 1024, 2099):
        one = estimate_correct(seen[row : row + 1], order, strata, outcomes[:5])
        np.testing.assert_allclose([total[row], error[row]], np.ravel(one), rtol=1e-9, atol=1e-9)


def test_more_references_than_images_can_bear_are_left_out():
    assert [n_controls(40, n) for n in (1, 4, 8, 100, 163, 164, 1000)] == [0, 0, 1, 24, 39, 40, 40]
    outcomes = planted(30, 100, seed=7)
    order, strata = order_images(outcomes[:20], np.random.default_rng(0))
    total, error = estimate_correct(outcomes[20:, order[:9]], order, strata, outcomes[:20])
    assert np.isfinite(total).all()
    assert (error > 0).all()


def test_images_that_references_dispute_come_first_and_chance_orders_the_rest():
    references = planted(16, 400, seed=8)
    right = references.sum(axis=0)
    dissent = np.minimum(right, 16 - right)
    n_first = np.zeros(400)
    for seed in range(300):
        order, strata = order_images(references, np.random.default_rng(seed))
        assert np.array_equal(np.sort(order), np.arange(400))
        for stratum in np.unique(strata):
            n_first[next(i for i in order if strata[i] == stratum)] += 1
    place = np.argsort(order)
    assert place[dissent >= 4].mean() < 0.7 * place[dissent == 0].mean()
    for stratum in np.unique(strata):
        members = strata == stratum
        assert dissent[members].max() <= 2 * dissent[members].min() + 2
        # Every image of a stratum is as likely as the others to be its first.
        limit = stats.binom.isf(1e-7, 300, 1 / members.sum())
        assert n_first[members].max() <= limit


# The race


def test_it_finds_the_top_on_few_images_and_says_how():
    outcomes = planted(300, 4000, seed=10, spread=1.0)
    result = race(outcomes, RaceRules(5, tolerance=0.0))
    assert result.winners.tolist() == top(outcomes, 5).tolist()
    assert outcomes.size / result.n_evaluations > 4
    is_complete = result.correct >= 0
    assert np.array_equal(result.correct[is_complete], outcomes.sum(axis=1)[is_complete])
    assert is_complete.sum() < 100
    assert result.n_references == round(np.sqrt(300))
    alive = len(outcomes) - result.n_references
    for entry in result.rounds:
        assert entry.n_alive == alive
        alive -= entry.n_completed + entry.n_eliminated + entry.n_failed
    sizes = [entry.n_images for entry in result.rounds]
    assert sizes == RaceRules(5).sizes(4000, result.n_references)[: len(sizes)]
    assert [e.kth_correct for e in result.rounds] == sorted(e.kth_correct for e in result.rounds)


def test_the_same_seed_gives_the_same_race_and_another_seed_another():
    outcomes = planted(100, 1000, seed=11)
    one, same, other = (race(outcomes, RaceRules(5, seed=seed, first=64)) for seed in (1, 1, 2))
    assert one.rounds == same.rounds
    assert one.winners.tolist() == same.winners.tolist()
    assert one.rounds != other.rounds


N_RACES = 120
DELTA = 0.2


def n_wrong(outcomes, rules_of, *, tolerance):
    """Return in how many races an arch was lost that is further than the tolerance above the K-th of all."""
    counts = outcomes.sum(axis=1)
    best = top(outcomes, 4)
    n = 0
    for seed in range(N_RACES):
        result = race(outcomes, rules_of(seed))
        found = counts[result.winners]
        lost = counts[np.setdiff1d(best, result.winners)]
        kth, width = counts[best[-1]], tolerance * outcomes.shape[1]
        n += bool((lost > kth + width).any() or (found < kth - width).any())
    return n


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_it_is_wrong_no_more_often_than_promised(tolerance):
    outcomes = planted(50, 900, seed=12, spread=0.15)
    wrong = n_wrong(
        outcomes, lambda s: RaceRules(4, DELTA, tolerance, s, first=60), tolerance=tolerance
    )
    assert wrong <= stats.binom.isf(1e-3, N_RACES, DELTA)


def test_a_race_that_is_too_sure_of_itself_is_caught(monkeypatch):
    def overconfident(*arguments):
        total, error = estimate_correct(*arguments)
        return total, error / 5

    monkeypatch.setattr(race_module, "estimate_correct", overconfident)
    outcomes = planted(50, 900, seed=12, spread=0.15)
    wrong = n_wrong(outcomes, lambda s: RaceRules(4, DELTA, 0.0, s, first=60), tolerance=0.0)
    assert wrong > stats.binom.isf(1e-3, N_RACES, DELTA)


def test_a_tolerance_saves_images():
    outcomes = planted(150, 2000, seed=13, spread=0.15)
    strict, loose = (
        np.mean([race(outcomes, RaceRules(5, 0.05, t, s)).n_evaluations for s in range(5)])
        for t in (0.0, 0.02)
    )
    assert loose < 0.9 * strict


@pytest.mark.parametrize("k", [1, 7, 40, 41, 1000])
def test_a_top_as_large_as_the_population_is_all_of_it(k):
    outcomes = planted(40, 500, seed=14)
    result = race(outcomes, RaceRules(k, 1e-6, 0.0, first=40))
    assert result.winners.tolist() == top(outcomes, k).tolist()
    if k >= 40:
        assert (result.rounds, result.n_evaluations) == ([], outcomes.size)


def test_too_few_images_to_race_are_scored_by_everybody():
    outcomes = planted(40, 300, seed=15)
    result = race(outcomes, RaceRules(3))
    assert result.rounds == []
    assert result.n_evaluations == outcomes.size
    assert result.winners.tolist() == top(outcomes, 3).tolist()


def test_one_arch_and_none():
    outcomes = planted(1, 900, seed=16)
    assert race(outcomes, RaceRules(3)).winners.tolist() == [0]
    nothing = race(outcomes[:0], RaceRules(3))
    assert (nothing.winners.tolist(), nothing.n_evaluations) == ([], 0)


@pytest.mark.parametrize("tolerance", [0.0, 0.002])
def test_archs_that_are_all_equal(tolerance):
    outcomes = np.repeat(planted(1, 800, seed=17), 60, axis=0)
    result = race(outcomes, RaceRules(4, 0.05, tolerance, first=50))
    assert len(result.winners) == 4
    if tolerance:
        assert result.n_evaluations < outcomes.size / 2
    else:
        assert result.winners.tolist() == [0, 1, 2, 3]


def test_ties_at_the_cut_go_to_those_listed_first():
    outcomes = planted(80, 700, seed=18)
    outcomes[[5, 33, 71]] = outcomes[top(outcomes, 1)]
    result = race(outcomes, RaceRules(2, 1e-6, 0.0, first=50))
    assert result.winners.tolist() == top(outcomes, 2).tolist()


def test_an_arch_may_take_several_places():
    outcomes = planted(80, 700, seed=19)
    best = top(outcomes, 5)
    n_each = np.ones(80, dtype=int)
    n_each[best[1]] = 3
    for k, n in ((1, 1), (2, 2), (4, 2), (5, 3)):
        result = race(outcomes, RaceRules(k, 1e-6, 0.0, first=50), n_each=n_each)
        assert result.winners.tolist() == best[:n].tolist()


def test_archs_that_cannot_be_run_leave_and_others_race_on():
    outcomes = planted(90, 900, seed=20)
    best = top(outcomes, 6)
    broken = [*best[[0, 3]], *range(0, 90, 7)]
    result = race(outcomes, RaceRules(3, 1e-6, 0.0, first=60), broken=broken)
    assert np.flatnonzero(result.is_failed).tolist() == sorted(set(broken))
    fine = np.setdiff1d(np.arange(90), broken)
    assert result.winners.tolist() == fine[top(outcomes[fine], 3)].tolist()


def test_nobody_can_be_run():
    outcomes = planted(30, 900, seed=21)
    result = race(outcomes, RaceRules(3, first=60), broken=range(30))
    assert result.winners.tolist() == []
    assert result.is_failed.all()


def test_what_is_known_is_not_run_again_and_changes_no_answer():
    outcomes = planted(90, 900, seed=22)
    rules = RaceRules(5, 1e-6, 0.0, first=60)
    alone = race(outcomes, rules)
    counts = outcomes.sum(axis=1)
    known = {i: int(counts[i]) for i in range(0, 90, 3)}
    helped = race(outcomes, rules, known=known)
    assert helped.winners.tolist() == alone.winners.tolist()
    assert helped.n_evaluations < alone.n_evaluations
    everything = race(outcomes, rules, known=dict(enumerate(counts.tolist())))
    assert everything.winners.tolist() == alone.winners.tolist()
    assert everything.n_evaluations == 0


@pytest.mark.parametrize("factor", [1.0001, 1.5, 3.0])
def test_rounds_grow_and_end(factor):
    sizes = RaceRules(3, first=10, factor=factor).sizes(1000, 5)
    assert sizes[0] == 10
    assert sizes == sorted(set(sizes))
    assert sizes[-1] <= 750
    assert RaceRules(3).sizes(10_000, 45)[0] == 8 * 46
    assert RaceRules(3).sizes(300, 5) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": 0}, "at least 1 arch, got 0"),
        ({"k": -3}, "got -3"),
        ({"delta": 0.0}, r"delta must lie in \(0, 1\), got 0.0"),
        ({"delta": float("nan")}, "got nan"),
        ({"tolerance": -0.1}, "tolerance must lie"),
        ({"tolerance": float("inf")}, "tolerance must lie"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"first": 1}, "first must be at least 2"),
        ({"factor": 1.0}, "factor must be above 1"),
        ({"factor": float("inf")}, "factor must be above 1"),
    ],
)
def test_rules_out_of_range_are_refused(values, message):
    with pytest.raises(OptionError, match=message):
        RaceRules(**{"k": 3, **values})


def test_populations_that_are_none_are_refused():
    watched = Watched(planted(4, 10, seed=0))
    with pytest.raises(ShapeError, match=r"\(arch,\), got \(2, 2\)"):
        run_race([[1, 1], [1, 1]], 10, RaceRules(1), watched)
    with pytest.raises(OptionError, match="got 0 images"):
        run_race([1, 1], 0, RaceRules(1), watched)
    with pytest.raises(OptionError, match="archs that count"):
        run_race([1, 0], 10, RaceRules(1), watched)
