"""Which heuristics of weight sharing help? P2's big table on NAS-Bench-201: a baseline, and each switch alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import Effect, contrast, squared_effects
from wsx.analysis.uncertainty import Spread, spread
from wsx.report.findings import (
    NO_WIDTH,
    Cell,
    Claim,
    Findings,
    Plot,
    ResultTable,
    Series,
    Verdict,
    has_width,
    judged,
    limits,
    verdict,
)
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P2, nasbench201_settings
from wsx.studies.papers.p2.switches import (
    BASELINE,
    HYPERPARAMETERS,
    IMPLEMENTATION,
    SWITCHES,
    variants_of,
)
from wsx.studies.papers.seeds import claim_over_seeds
from wsx.studies.papers.variants import (
    COLUMNS,
    RankedSettings,
    accuracy_of,
    columns_heads,
    columns_of,
    columns_table_row,
    difference,
    variant_steps,
)

SHOWN = ("accuracy", "kendall_tau", "sparse_tau", "surpass_random", "final")
CHANGED = ("accuracy", "sparse_tau", "surpass_random", "final")
TINY = ("ops-on-node", "wsbn", "half-data", "random-nas", "running-bn", "third-rate")
SMALL = (*(name for name, one in SWITCHES.items() if one.published), "random-nas", "batch-bn")
ABSTRACT = f"{P2}, abstract"
QUOTED = f"{P2}, as a third party quotes it"
NOT_TRIED = "these switches were left out"
LEVEL = 0.95
KERNELS = ("kernels-centre", "kernels-transform")
BATCHES = ("half-batch", "double-batch")
CHANNELS = ("half-channels", "double-channels")
RATES = ("third-rate", "triple-rate")

Columns = Mapping[str, dict[str, Spread]]
Taus = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class HeuristicsSettings(RankedSettings):
    """Numbers of the sweep.

    Attributes:
        switches: Which heuristics.
        margin: Change of sparse tau up to which a switch matters little.
        eval_batch: Images per batch of scores in BatchNorm mode ``batch``.
    """

    switches: tuple[str, ...] = TINY
    margin: float = 0.05
    eval_batch: int = 256


class Heuristics(Study):
    """A baseline and variants that differ from it in one thing each, in P2's four columns."""

    paper = f"{P2}, its comparison of heuristics"
    summary = "which heuristics of weight sharing help, and which hurt?"
    starts_from = "p2-nasbench201"

    def settings(self, scale: str) -> HeuristicsSettings:
        """Return the numbers of a scale.

        ``small`` has the switches of which conclusions are known, and two more, in less than two hours; under
        ``paper`` the baseline draws encodings, which is Random-NAS, and half of the training images are kept for
        validation, as in the paper's code.
        """
        values = nasbench201_settings(scale, self.starts_from)
        if scale == "tiny":
            return HeuristicsSettings(**values | {"n_archs": 12})
        if scale == "small":
            return HeuristicsSettings(**values, n_archs=150, switches=SMALL)
        switches = tuple(name for name in SWITCHES if name != "random-nas")
        values["data"] = replace(values["data"], n_train=25_000)
        return HeuristicsSettings(**values, switches=switches)

    def steps(self, settings: HeuristicsSettings, folder: Path) -> Sequence[Step]:
        """Train all variants, and score the same archs after each."""
        texts, _ = settings.archs()
        variants = variants_of(settings, settings.switches, settings.eval_batch)
        return variant_steps(variants, settings, texts)

    def findings(self, settings: HeuristicsSettings, folder: Path) -> Findings:
        """Compare each variant with what it differs from in one thing."""
        texts, truth = settings.archs()
        variants = variants_of(settings, settings.switches, settings.eval_batch)
        columns: Columns = {
            one.name: columns_of(
                accuracy_of(one, settings, folder, texts)[:, -1], truth, settings.top_k
            )
            for one in variants
        }
        taus = {name: found["sparse_tau"].values for name, found in columns.items()}
        effects = {
            name: _change(taus, (name,), n_tests=len(taus) - 1) for name in taus if name != BASELINE
        }
        return Findings(
            "Which heuristics of weight sharing help?",
            f"{len(variants)} ways to train, {len(settings.seeds)} seeds each, {len(texts)} archs of "
            f"{settings.space}, {settings.data.spec}. Each switch is changed alone. Claims are judged one by one, "
            "verdicts on switches all together.",
            _claims(taus, settings),
            [_verdicts(effects), _ways_table(columns), _changes_table(columns)],
            [_plot(effects)],
            {**settings.as_dict(), "published": P2},
        )


def _weights(names: Sequence[str]) -> dict[str, float]:
    """Return the contrast of the mean of switches with the mean of what each is compared with."""
    weights: dict[str, float] = {}
    for name in names:
        for way, sign in ((name, 1), (SWITCHES[name].against, -1)):
            weights[way] = weights.get(way, 0.0) + sign / len(names)
    return {way: weight for way, weight in weights.items() if weight}


def _change(taus: Taus, names: Sequence[str], *, n_tests: int = 1) -> Effect:
    """Return the mean change of sparse tau by some switches, whose limits hold for several tests together.

    Ways of evaluation score the supernets that they are compared with once more: their changes are paired, seed
    by seed, and they say nothing new about the deviation between trainings, which all others share.
    """
    if any(SWITCHES[name].bn for name in names):
        pairs = np.mean([taus[name] - taus[SWITCHES[name].against] for name in names], axis=0)
        found = spread(pairs, "change", level=1 - (1 - LEVEL) / n_tests)
        return Effect(found.mean, found.low, found.high)
    trained = {name: values for name, values in taus.items() if not _shares_trainings(name)}
    return contrast(trained, _weights(names), level=LEVEL, n_tests=n_tests)


def _shares_trainings(name: str) -> bool:
    return name in SWITCHES and bool(SWITCHES[name].bn)


def _claims(taus: Taus, settings: HeuristicsSettings) -> list[Claim]:
    implementation = [name for name in taus if _family(name) == IMPLEMENTATION]
    return [
        _lowers("Popular heuristics lower the correlation.", ABSTRACT, implementation, taus),
        _hyperparameters(taus, implementation),
        _lowers("WSBN lowers the correlation.", QUOTED, ["wsbn"], taus),
        _lowers("OFA kernels lower the correlation.", QUOTED, KERNELS, taus),
        _lowers("Path dropout lowers the correlation.", QUOTED, ["path-dropout"], taus),
        _lowers(
            "BatchNorm statistics that training tracked lower the correlation.",
            f"{P2}, introduction",
            ["running-bn"],
            taus,
        ),
        _size("Batch size matters little.", BATCHES, taus, settings.margin, is_little=True),
        _size("Channels matter little.", CHANNELS, taus, settings.margin, is_little=True),
        _size("The learning rate matters.", RATES, taus, settings.margin, is_little=False),
    ]


def _family(name: str) -> str:
    return SWITCHES[name].family if name in SWITCHES else ""


def _lowers(text: str, source: str, names: Sequence[str], taus: Taus) -> Claim:
    """Return a claim about the mean change of sparse tau by some switches."""
    tried = [name for name in names if name in taus]
    if not tried:
        return Claim(text, source, "open", NOT_TRIED)
    change = _change(taus, tried)
    how = (
        "from paired seeds, as both score the same supernets"
        if any(map(_shares_trainings, tried))
        else "the deviation between seeds is that of all trainings"
    )
    what = "mean change" if len(tried) > 1 else "change"
    evidence = (
        f"{what} of sparse tau {change.value:+.3f} {limits(change.low, change.high)} by {', '.join(tried)} "
        f"(95 %, {how})"
    )
    return judged(text, source, -change.high, -change.low, evidence)


def _size(text: str, names: Sequence[str], taus: Taus, margin: float, *, is_little: bool) -> Claim:
    """Return a claim about whether switches change sparse tau by more than a margin, either way."""
    tried = [name for name in names if name in taus]
    if not tried:
        return Claim(text, QUOTED, "open", NOT_TRIED)
    changes = {name: _change(taus, (name,), n_tests=len(tried)) for name in tried}
    is_large = any(max(one.low, -one.high) > margin for one in changes.values())
    is_small = all(max(one.high, -one.low) < margin for one in changes.values())
    found: Verdict = "open"
    is_known = all(has_width(one.low, one.high) for one in changes.values())
    if is_known and (is_large or is_small):
        found = "holds" if is_small == is_little else "does not hold"
    shown = (f"{n} {one.value:+.3f} {limits(one.low, one.high)}" for n, one in changes.items())
    evidence = f"change of sparse tau, beside a margin of {margin:g}: {'; '.join(shown)}"
    if not is_known:
        evidence = f"{evidence}; {NO_WIDTH}"
    return Claim(text, QUOTED, found, evidence)


def _hyperparameters(taus: Taus, implementation: Sequence[str]) -> Claim:
    """Return the claim that hyper-parameters move more than heuristics, by mean squared changes."""
    text = "Hyper-parameters, BatchNorm among them, change the correlation more than heuristics do."
    hyper = [name for name in taus if _family(name) == HYPERPARAMETERS]
    if not hyper or not implementation:
        return Claim(text, ABSTRACT, "open", NOT_TRIED)
    sizes = [_sizes(taus, names) for names in (hyper, implementation)]
    if not np.isfinite(sizes).all():
        # What has no value has no digits to show either.
        return Claim(
            text, ABSTRACT, "open", "squared changes need 3 seeds or more with a sparse tau"
        )
    return claim_over_seeds(
        text,
        ABSTRACT,
        spread(sizes[0] - sizes[1], "larger squared change"),
        "mean squared change of sparse tau in hundredths, without what chance adds to it, "
        f"{sizes[0].mean():.1f} by {len(hyper)} hyper-parameters, {sizes[1].mean():.1f} by {len(implementation)} "
        "heuristics: difference",
    )


def _sizes(taus: Taus, names: Sequence[str]) -> NDArray[np.float64]:
    changes = np.array([taus[name] - taus[SWITCHES[name].against] for name in names])
    return squared_effects(100 * changes[np.isfinite(changes).all(axis=1)])


def _ways_table(columns: Columns) -> ResultTable:
    rows = [
        [_family(name), *columns_table_row(name, found, SHOWN)] for name, found in columns.items()
    ]
    return ResultTable(
        "Each way to train",
        ["family", *columns_heads("way", SHOWN)],
        rows,
        "The paper's own figures for NAS-Bench-201 are not known to us. It counts 14 heuristics; that these "
        "switches are 14 when dropouts, kernels, samplers and both directions of a number count once is our "
        "reading.",
    )


def _changes_table(columns: Columns) -> ResultTable:
    rows: list[list[Cell]] = []
    for name in columns:
        if name == BASELINE:
            continue
        against = SWITCHES[name].against
        row: list[Cell] = [name, against]
        for column in CHANGED:
            change = difference(columns[name][column], columns[against][column])
            row += [change.mean, limits(change.low, change.high)]
        rows.append(row)
    heads = [head for column in CHANGED for head in (COLUMNS[column], "95 % over seeds")]
    return ResultTable(
        "What each switch changes, seed by seed",
        ["switch", "compared with", *heads],
        rows,
        "Limits of each switch by itself, from its own seeds.",
    )


def _verdicts(effects: Mapping[str, Effect]) -> ResultTable:
    words = {"holds": "helps", "does not hold": "hurts", "open": "open"}
    rows: list[list[Cell]] = [
        [
            SWITCHES[name].family,
            name,
            SWITCHES[name].label,
            SWITCHES[name].against,
            words[verdict(found.low, found.high)],
            SWITCHES[name].published or "not known",
            found.value,
            limits(found.low, found.high),
        ]
        for name, found in effects.items()
    ]
    heads = ["family", "switch", "what it is", "compared with", "verdict", "published conclusion"]
    return ResultTable(
        "Which switches help",
        [*heads, "change of sparse tau", "95 %, all switches together"],
        rows,
        f"Limits are Bonferroni's for {len(effects)} switches, so that with 95 % certainty no verdict is "
        "wrong; all trainings share one deviation between seeds, which is estimated from all of them. Switches "
        "that score the supernets of what they are compared with have limits from their own paired seeds.",
    )


def _plot(effects: Mapping[str, Effect]) -> Plot:
    families: dict[str, dict[str, Effect]] = {}
    for name, found in effects.items():
        families.setdefault(SWITCHES[name].family, {})[name] = found
    return Plot(
        "changes",
        "What each switch does to sparse tau",
        "switch",
        "change of sparse tau",
        "marks",
        [_series(family, found) for family, found in families.items()],
        "Lines are 95 % limits that hold for all switches together.",
    )


def _series(name: str, effects: Mapping[str, Effect]) -> Series:
    found = list(effects.values())
    lows, highs = [one.low for one in found], [one.high for one in found]
    return Series(name, list(effects), [one.value for one in found], lows, highs)


STUDIES.register("heuristics")(Heuristics())
