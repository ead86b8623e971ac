"""One shape for every ground-truth table: accuracies, or losses of language models."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.baselines import seed_against_seed
from wsx.analysis.metrics import correlation_metrics
from wsx.errors import ShapeError, TruthError

# Tables round accuracies and their mean to four decimals of a percent or so.
_MEAN_TOLERANCE = 1e-5
# Of sparse tau, which is not asked for here.
_ANY_WIDTH = 0.001


@dataclass(frozen=True)
class SeedAgreement:
    """How far two trainings of the same archs agree: the reliability of one training.

    The mean of several trainings is less noisy, and correlations with it can be higher.

    Attributes:
        kendall: Kendall's tau-b, mean over pairs of runs; nan if all pairs are constant.
        spearman: Spearman's rho, likewise.
        n_pairs: Number of pairs of runs that share at least two archs.
        n_archs: Number of archs trained at least twice.
    """

    kendall: float
    spearman: float
    n_pairs: int
    n_archs: int


@dataclass(frozen=True, eq=False)
class TruthTable:
    """Accuracies or losses of archs that were each trained alone; its arrays must not be written to.

    Attributes:
        space: Name of the space, empty if not known.
        dataset: Name of the dataset they were trained on, empty if not known.
        split: The split they were measured on, empty if not known.
        source: Where the numbers come from.
        texts: Text form of each arch; none twice.
        accuracy: float64, shape (arch,), fraction in [0, 1], mean over the trainings; nan throughout
            where ``loss`` is given.
        per_seed: float64, shape (arch, run), the single trainings in the table's metric, nan where
            there was none; None if only the mean is known.
        params: int64, shape (arch,), number of parameters; None if not known.
        flops: int64, shape (arch,), operations per image as the source counts them; None likewise.
        info: Whatever else the source states; plain JSON values.
        loss: float64, shape (arch,), mean loss per token in nats (the logarithm of perplexity), mean
            over the trainings, lower is better; None in tables of accuracies.

    Raises:
        ShapeError: The arrays do not fit together.
        TruthError: The table is empty, names an arch twice, or holds a number that is none.
    """

    space: str
    dataset: str
    split: str
    source: str
    texts: tuple[str, ...]
    accuracy: NDArray[np.float64]
    per_seed: NDArray[np.float64] | None = None
    params: NDArray[np.int64] | None = None
    flops: NDArray[np.int64] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)
    loss: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        n_archs = len(self.texts)
        if not n_archs:
            raise TruthError(f"the truth table {self.source!r} holds no arch")
        for name, array in (
            ("accuracy", self.accuracy),
            ("loss", self.loss),
            ("params", self.params),
            ("flops", self.flops),
        ):
            if array is not None and array.shape != (n_archs,):
                raise ShapeError(f"{name} must have shape ({n_archs},), not {array.shape}")
        if len(self._index) != n_archs:
            twice = Counter(self.texts).most_common(1)[0][0]
            raise TruthError(f"the truth table {self.source!r} names arch {twice!r} twice")
        if self.loss is not None and not np.isnan(self.accuracy).all():
            raise TruthError(f"the truth table {self.source!r} has both accuracies and losses")
        self._refuse(~self._is_in_range(self._values), self._values)
        if self.per_seed is not None:
            self._check_seeds(self.per_seed)

    def _check_seeds(self, per_seed: NDArray[np.float64]) -> None:
        if per_seed.ndim != 2 or len(per_seed) != len(self.texts) or not per_seed.shape[1]:
            raise ShapeError(
                f"per_seed must have shape ({len(self.texts)}, run), not {per_seed.shape}"
            )
        is_known = ~np.isnan(per_seed)
        self._refuse(is_known.sum(axis=1) == 0, self._values)
        mean = np.where(is_known, per_seed, 0).sum(axis=1) / is_known.sum(axis=1)
        self._refuse(~(np.abs(mean - self._values) <= _MEAN_TOLERANCE), mean)
        outside = is_known & ~self._is_in_range(per_seed)
        self._refuse(outside.sum(axis=1) > 0, np.nanmax(per_seed, axis=1))

    def _refuse(self, wrong: NDArray[np.bool_], values: NDArray[np.float64]) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            kinds = {
                "accuracy": "accuracies are fractions in [0, 1]",
                "loss": "losses are at least 0",
            }
            raise TruthError(
                f"the truth table {self.source!r} gives arch {self.texts[row]!r} the {self.metric} "
                f"{values[row]}; {kinds[self.metric]} and the mean of their trainings"
            )

    @property
    def metric(self) -> str:
        """What the table holds: ``accuracy``, or ``loss`` in nats per token."""
        return "accuracy" if self.loss is None else "loss"

    @property
    def _values(self) -> NDArray[np.float64]:
        return self.accuracy if self.loss is None else self.loss

    @property
    def goodness(self) -> NDArray[np.float64]:
        """What archs are ranked by, larger is better, (arch,): accuracies, or negative losses."""
        return self.accuracy if self.loss is None else -self.loss

    @property
    def goodness_runs(self) -> NDArray[np.float64] | None:
        """The single trainings, larger is better, (run, arch), nan where there was none; None if unknown."""
        if self.per_seed is None:
            return None
        return self.per_seed.T if self.loss is None else -self.per_seed.T

    def _is_in_range(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        most = 1.0 if self.loss is None else np.finfo(float).max
        return (values >= 0) & (values <= most)

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.texts)}

    @cached_property
    def digest(self) -> str:
        """SHA-256 over everything but ``info``, in hexadecimal."""
        header = [self.space, self.dataset, self.split, self.source, list(self.texts)]
        state = hashlib.sha256(json.dumps(header).encode())
        for array in (self.accuracy, self.per_seed, self.params, self.flops):
            state.update(repr(None if array is None else array.shape).encode())
            if array is not None:
                state.update(np.ascontiguousarray(array).data)
        if self.loss is not None:
            state.update(b"loss" + np.ascontiguousarray(self.loss).tobytes())
        return state.hexdigest()

    def align(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Find archs in the table.

        Args:
            texts: Text forms, spelt as the table spells them.

        Returns:
            The row of each text, shape (arch,), -1 where the table has none; and whether it has.
        """
        rows = np.array([self._index.get(text, -1) for text in texts], np.int64)
        return rows, rows >= 0

    def only(self, texts: Sequence[str]) -> "TruthTable":
        """Return the table of these archs, in this order.

        Raises:
            TruthError: The table lacks one of them.
        """
        rows, is_known = self.align(texts)
        if not is_known.all():
            missing = [text for text, known in zip(texts, is_known, strict=True) if not known]
            raise TruthError(
                f"the truth table {self.source!r} lacks {len(missing)} of {len(texts)} archs, first {missing[0]!r}"
            )

        def pick(array: NDArray[Any] | None) -> Any:
            return None if array is None else array[rows]

        arrays = {
            name: pick(getattr(self, name))
            for name in ("accuracy", "per_seed", "params", "flops", "loss")
        }
        return replace(self, texts=tuple(texts), **arrays)

    def seed_agreement(self) -> SeedAgreement | None:
        """Return the rank correlations between trainings, or None without two of one arch."""
        runs = self.goodness_runs
        if runs is None or len(runs) < 2:
            return None
        is_known = ~np.isnan(runs)
        n_pairs = sum(bool((one & other).sum() >= 2) for one, other in combinations(is_known, 2))
        if not n_pairs:
            return None
        metrics = {metric.name: metric for metric in correlation_metrics(_ANY_WIDTH)}
        kendall, spearman = (
            seed_against_seed(metrics[name], runs).value for name in ("kendall_tau", "spearman")
        )
        n_archs = int((is_known.sum(axis=0) >= 2).sum())
        return SeedAgreement(kendall, spearman, n_pairs, n_archs)
