"""Finding the top K of a population without scoring everybody on every image.

A few archs drawn by lot, the references, are scored on all images; they say which images tell archs apart, and
every other arch is compared with them image by image (``wsx.analysis.race_estimate``). Rounds add images. After
each, the archs that look best are scored on all images, so that the K-th best exact count is a bar without noise
of its own, and archs whose upper bound stays below it are out. ``docs/race.md`` states the guarantee.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from wsx.analysis._vectors import FloatArray
from wsx.analysis.race_estimate import (
    BoolArray,
    IntArray,
    estimate_correct,
    n_controls,
    order_images,
)
from wsx.errors import OptionError, ShapeError

Observe = Callable[[IntArray, IntArray], tuple[BoolArray, BoolArray]]
"""Gets archs and images by index; returns outcomes (arch, image), and (arch,) whether an arch could be run."""

MAX_REFERENCES = 64
MIN_FIRST = 256
IMAGES_PER_REFERENCE = 8
# Past this share of the images a further round saves less than it costs.
LAST_SHARE = 0.75


@dataclass(frozen=True)
class RaceRules:
    """What a race looks for, and how sure it must be.

    Attributes:
        k: How many archs make the top, at least 1.
        delta: Probability, over the order of the images, that the answer is worse than promised; in (0, 1).
        tolerance: Accuracies that differ by no more than this fraction may be mistaken for each other; in [0, 1).
        seed: Of the references and of the order of the images.
        first: Images of the first round; None takes what suits the number of references.
        factor: Growth of the images seen from round to round, above 1.

    Raises:
        OptionError: A value is out of range.
    """

    k: int
    delta: float = 0.05
    tolerance: float = 0.002
    seed: int = 0
    first: int | None = None
    factor: float = 1.5

    def __post_init__(self) -> None:
        checks = (
            (self.k >= 1, f"the top must hold at least 1 arch, got {self.k}"),
            (0 < self.delta < 1, f"delta must lie in (0, 1), got {self.delta}"),
            (0 <= self.tolerance < 1, f"tolerance must lie in [0, 1), got {self.tolerance}"),
            (self.seed >= 0, f"the seed must be at least 0, got {self.seed}"),
            (self.first is None or self.first >= 2, f"first must be at least 2, got {self.first}"),
            (1 < self.factor < np.inf, f"factor must be above 1, got {self.factor}"),
        )
        for is_fine, message in checks:
            if not is_fine:
                raise OptionError(message)

    def sizes(self, n_images: int, n_references: int) -> list[int]:
        """Return how many images have been seen at the end of each round; none where a race cannot pay."""
        first = self.first or max(MIN_FIRST, IMAGES_PER_REFERENCE * (n_references + 1))
        sizes, size = [], float(first)
        while size <= LAST_SHARE * n_images:
            sizes.append(int(size))
            size = max(size * self.factor, size + 1)
        return sizes


@dataclass(frozen=True)
class RaceRound:
    """One round of a race.

    Attributes:
        n_images: Images that every arch alive has seen.
        n_alive: Archs that ran in this round.
        n_completed: Of these, archs that went on to all images at once, because they looked best.
        n_eliminated: Of these, archs that are out.
        n_failed: Of these, archs that could not be run.
        n_evaluations: Image evaluations so far, those of the references included.
        kth_correct: The bar: correct count of the K-th best arch scored on all images; -1 while there are fewer.
    """

    n_images: int
    n_alive: int
    n_completed: int
    n_eliminated: int
    n_failed: int
    n_evaluations: int
    kth_correct: int


@dataclass(frozen=True, eq=False)
class RaceResult:
    """How a race ended.

    Attributes:
        winners: Indices of the top archs, best first, ties in the order given.
        correct: Exact correct counts, shape (arch,); -1 where an arch was not scored on all images.
        is_failed: Archs that could not be run, shape (arch,).
        rounds: What happened; a race that cannot pay has none.
        n_references: Archs drawn by lot and scored on all images.
        n_evaluations: Image evaluations in all.
    """

    winners: IntArray
    correct: IntArray
    is_failed: BoolArray
    rounds: list[RaceRound]
    n_references: int
    n_evaluations: int


def run_race(
    n_each: npt.ArrayLike,
    n_images: int,
    rules: RaceRules,
    observe: Observe,
    *,
    known: Mapping[int, int] | None = None,
    on_round: Callable[[RaceRound], None] | None = None,
) -> RaceResult:
    """Find the top K archs of a population; ``docs/race.md`` states how surely.

    Args:
        n_each: How many places among the top each arch takes, shape (arch,): archs that compute the same
            function race as one.
        n_images: Images in all.
        rules: What is looked for.
        observe: Runs archs on images; never asked for an image of an arch twice. References that are
            known are asked for, since their outcomes are needed.
        known: Exact counts at hand, by arch.
        on_round: Called after each round.

    Raises:
        ShapeError: ``n_each`` is not one-dimensional.
        OptionError: There is no image, or an arch takes no place.
    """
    weights = np.asarray(n_each, dtype=np.int64)
    if weights.ndim != 1:
        raise ShapeError(f"n_each must have shape (arch,), got {weights.shape}")
    if n_images < 1 or (weights < 1).any():
        raise OptionError(f"a race needs images and archs that count, got {n_images} images")
    race = _Race(weights, n_images, rules, observe)
    for arch, correct in (known or {}).items():
        race.correct[arch] = correct
    race.run(on_round or (lambda _: None))
    ranked = race.ranked()
    n_winners = int(np.searchsorted(np.cumsum(weights[ranked]), rules.k)) + 1
    return RaceResult(
        ranked[:n_winners],
        race.correct,
        race.is_failed,
        race.rounds,
        len(race.references),
        race.n_evaluations,
    )


class _Race:
    """The state of a race: archs are scored on all images, failed, out, or alive.

    Attributes:
        correct: Exact counts of the archs scored on all images, else -1.
        racing: The archs that hold outcomes so far; ``seen`` has their rows.
    """

    def __init__(
        self, weights: IntArray, n_images: int, rules: RaceRules, observe: Observe
    ) -> None:
        self.weights, self.rules, self.observe = weights, rules, observe
        self.correct = np.full(weights.size, -1, dtype=np.int64)
        self.is_failed = np.zeros(weights.size, dtype=bool)
        self.is_out = np.zeros(weights.size, dtype=bool)
        self.order: IntArray = np.arange(n_images)
        self.references = np.zeros((0, n_images), dtype=bool)
        self.racing: IntArray = np.arange(weights.size)
        self.seen = np.zeros((weights.size, 0), dtype=bool)
        self.rounds: list[RaceRound] = []
        self.n_evaluations = 0

    def run(self, on_round: Callable[[RaceRound], None]) -> None:
        n_references = min(MAX_REFERENCES, round(np.sqrt(self.weights.size)))
        sizes = self.rules.sizes(self.order.size, n_references)
        if sizes and self.weights.sum() > self.rules.k:
            rng = np.random.default_rng(self.rules.seed)
            self._run_references(rng.permutation(self.weights.size)[:n_references])
            self.order, strata = order_images(self.references, rng)
            # A top arch is lost only where its bound fails, and each of K archs has one bound a round.
            level = self.rules.delta / (self.rules.k * len(sizes))
            for size in sizes:
                self._keep_alive()
                if not self.racing.size:
                    break
                self._run_round(size, strata, level)
                on_round(self.rounds[-1])
        self._keep_alive()
        self._complete(np.ones(self.racing.size, dtype=bool))

    def ranked(self) -> IntArray:
        """Return the archs scored on all images, best first."""
        done = np.flatnonzero(self.correct >= 0)
        return done[np.argsort(-self.correct[done], kind="stable")]

    def _kth_correct(self) -> int:
        ranked = self.ranked()
        place = int(np.searchsorted(np.cumsum(self.weights[ranked]), self.rules.k))
        return int(self.correct[ranked[place]]) if place < ranked.size else -1

    def _run(self, archs: IntArray, images: IntArray) -> tuple[BoolArray, BoolArray]:
        if not archs.size:
            return np.zeros((0, images.size), dtype=bool), np.ones(0, dtype=bool)
        outcomes, is_fine = self.observe(archs, images)
        self.n_evaluations += int((self.correct[archs] < 0).sum()) * images.size
        self.is_failed[archs[~is_fine]] = True
        return outcomes, is_fine

    def _run_references(self, archs: IntArray) -> None:
        outcomes, is_fine = self._run(archs, self.order)
        self.references = outcomes[is_fine]
        self.correct[archs[is_fine]] = self.references.sum(axis=1)

    def _keep_alive(self) -> None:
        is_gone = (self.correct >= 0) | self.is_failed | self.is_out
        is_kept = ~is_gone[self.racing]
        self.racing, self.seen = self.racing[is_kept], self.seen[is_kept]

    def _run_round(self, size: int, strata: IntArray, level: float) -> None:
        n_alive = self.racing.size
        outcomes, is_fine = self._run(self.racing, self.order[self.seen.shape[1] : size])
        self.racing = self.racing[is_fine]
        self.seen = np.hstack([self.seen, outcomes])[is_fine]
        total, error = estimate_correct(self.seen, self.order, strata, self.references)
        is_best = self._looks_best(total)
        self._complete(is_best)
        bar = self._kth_correct()
        n_free = size - 1 - n_controls(len(self.references), size)
        upper = total + stats.t.isf(level, n_free) * error
        # Counts are whole: what lies between two of them is the lower one, but for rounding of the sums.
        is_below = np.floor(upper + 1e-6) < bar + self.rules.tolerance * self.order.size
        is_below &= ~is_best & (bar >= 0)
        self.is_out[self.racing[is_below]] = True
        self.rounds.append(
            RaceRound(
                n_images=size,
                n_alive=n_alive,
                n_completed=int((self.correct[self.racing] >= 0).sum()),
                n_eliminated=int(is_below.sum()),
                n_failed=int(self.is_failed[self.racing].sum()) + int((~is_fine).sum()),
                n_evaluations=self.n_evaluations,
                kth_correct=bar,
            )
        )

    def _looks_best(self, total: FloatArray) -> BoolArray:
        """Return which archs racing would raise the bar: above it, and among the K best as things look."""
        rivals = self.correct[self.ranked()[: self.rules.k]]
        best = np.argsort(-np.concatenate([rivals, total]), kind="stable")[: self.rules.k]
        is_best: BoolArray = np.isin(np.arange(total.size) + rivals.size, best)
        return is_best & (total > self._kth_correct())

    def _complete(self, is_chosen: BoolArray) -> None:
        """Score some of the archs racing on the images that they have not seen."""
        archs = self.racing[is_chosen]
        outcomes, is_fine = self._run(archs, self.order[self.seen.shape[1] :])
        correct = self.seen[is_chosen].sum(axis=1) + outcomes.sum(axis=1)
        self.correct[archs[is_fine]] = correct[is_fine]
