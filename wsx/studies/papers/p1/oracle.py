"""Is a pruned space easier to search? P1's oracle: only the best third by truth is trained, or a random third."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.analysis import mean_truth_at, spearman, spread
from wsx.analysis.uncertainty import Spread
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.spaces.folds import oracle_part, random_part
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P1, nasbench201_settings
from wsx.studies.papers.p1.parts import Part, is_inside, last_accuracies, parsed, part_steps
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.variants import RankedSettings

Array = NDArray[np.float64]
ABSTRACT = f"{P1}, abstract of its first version"
CODE = f"{P1}, omniscience of the released code; its outcome is not known to us"
WHOLE, BEST, RANDOM = "whole", "best", "random"
RANDOM_SEED = 42
NAMES = {"accuracy": "supernet accuracy", "spearman": "Spearman", "final": "truth of the top K"}


@dataclass(frozen=True)
class OracleSettings(RankedSettings):
    """Numbers of this study.

    Attributes:
        ratio: Share of the archs that is kept.
    """

    ratio: float = 0.33


class Oracle(Study):
    """Supernets trained on the best third of the archs by truth, on a random third, and on all."""

    paper = f"{P1}, omniscience"
    summary = "is a space easier to search once the worse archs have been pruned away?"
    starts_from = "p1-nasbench201"

    def settings(self, scale: str) -> OracleSettings:
        """Return the numbers of a scale."""
        values = nasbench201_settings(scale, self.starts_from)
        recipe = values.pop("recipe")
        if scale == "tiny":
            values |= {"n_archs": 40}
        elif scale == "small":
            recipe = replace(recipe, epochs=24, checkpoint_epochs=24)
            values |= {"n_archs": 450}
        else:
            recipe = replace(recipe, epochs=2_000, lr=0.05)
            values |= {"n_archs": 3_000}
        return OracleSettings(**values, recipe=recipe)

    def steps(self, settings: OracleSettings, folder: Path) -> Sequence[Step]:
        """Write lists of archs, train on each, and score the same archs after each."""
        return part_steps(_parts(settings), settings, folder, settings.archs()[0])

    def findings(self, settings: OracleSettings, folder: Path) -> Findings:
        """Compare what training and searching within a part are worth."""
        texts, truth = settings.archs()
        parts = _parts(settings)
        inside = is_inside(parts, settings, texts)
        scores = last_accuracies(parts, settings, folder, texts)
        readings = _readings(scores, inside, truth, settings.top_k)
        n_kept = len(parts[1].archs)
        return Findings(
            "Is a pruned space easier to search?",
            f"{len(settings.seeds)} supernets of each kind, {settings.recipe.epochs} epochs on "
            f"{settings.data.spec}: trained on {len(parts[0].archs)} archs of {settings.space}, on the best "
            f"{n_kept} by truth, and on {n_kept} at random; {len(texts)} archs scored, the top "
            f"{settings.top_k} picked.",
            _claims(readings),
            [_table(readings, inside, truth)],
            [_plot(readings)],
            {**settings.as_dict(), "random_part_seed": RANDOM_SEED, "published": P1},
        )


def _parts(settings: OracleSettings) -> list[Part]:
    texts, truth = settings.known_archs()
    archs = parsed(settings, texts)
    best = oracle_part(archs, truth, settings.ratio)
    drawn = random_part(archs, settings.ratio, seed=RANDOM_SEED)
    return [
        Part(WHOLE, "all archs", archs),
        Part(BEST, "the best by truth", best),
        Part(RANDOM, "a random part", drawn),
    ]


Key = tuple[str, str]
"""What was trained on, and where archs are compared and picked."""

KEYS: dict[Key, str] = {
    (WHOLE, WHOLE): "all archs, searched in all",
    (WHOLE, BEST): "all archs, searched in the best",
    (BEST, BEST): "the best archs, searched in these",
    (WHOLE, RANDOM): "all archs, searched in a random part",
    (RANDOM, RANDOM): "a random part, searched in it",
}


def _readings(
    scores: Mapping[str, Array], inside: Mapping[str, NDArray[np.bool_]], truth: Array, top_k: int
) -> dict[Key, dict[str, Spread]]:
    """Return accuracy, Spearman correlation and truth of the top K, by training and search."""
    readings = {}
    for trained_on, searched in KEYS:
        mask = inside[searched]
        rows, true = scores[trained_on][:, mask], truth[mask]
        k = min(top_k, true.size)
        values = {
            "accuracy": rows.mean(axis=1),
            "spearman": [spearman(row, true) for row in rows],
            "final": [mean_truth_at(row, true, k) for row in rows],
        }
        readings[trained_on, searched] = {
            name: spread(values[name], label) for name, label in NAMES.items()
        }
    return readings


def _claims(readings: Mapping[Key, Mapping[str, Spread]]) -> list[Claim]:
    def claim(text: str, source: str, name: str, one: Key, other: Key) -> Claim:
        a, b = readings[one][name], readings[other][name]
        gain = spread(a.values - b.values, "gain")
        return claim_over_seeds(
            text, source, gain, f"{NAMES[name]} {a.mean:.4f} against {b.mean:.4f}: difference"
        )

    return [
        claim(
            "Better archs are found in a space that was pruned well, and trained so.",
            ABSTRACT,
            "final",
            (BEST, BEST),
            (WHOLE, WHOLE),
        ),
        claim(
            "That is more than pruning the search: trained on the best archs alone, a supernet picks better "
            "ones among them than one trained on all.",
            CODE,
            "final",
            (BEST, BEST),
            (WHOLE, BEST),
        ),
        claim(
            "Trained on the best archs alone, a supernet ranks them better than one trained on all.",
            CODE,
            "spearman",
            (BEST, BEST),
            (WHOLE, BEST),
        ),
        claim(
            "Trained on a random part alone, a supernet ranks it better than one trained on all.",
            CODE,
            "spearman",
            (RANDOM, RANDOM),
            (WHOLE, RANDOM),
        ),
        claim(
            "Archs reach higher accuracy with shared weights where fewer, better ones share.",
            CODE,
            "accuracy",
            (BEST, BEST),
            (WHOLE, BEST),
        ),
    ]


def _table(
    readings: Mapping[Key, Mapping[str, Spread]],
    inside: Mapping[str, NDArray[np.bool_]],
    truth: Array,
) -> ResultTable:
    rows: list[list[Cell]] = []
    for key, found in readings.items():
        true = truth[inside[key[1]]]
        cells: list[Cell] = [KEYS[key], true.size]
        for name in NAMES:
            cells += [found[name].mean, limits(found[name].low, found[name].high, 4)]
        rows.append([*cells, float(true.mean()), float(true.max())])
    heads = [head for label in NAMES.values() for head in (label, "95 %")]
    return ResultTable(
        "Trained on a part, searched in a part",
        ["trained on", "archs scored", *heads, "mean truth", "best truth"],
        rows,
        "Limits are over seeds of the supernets. Published figures are not known to us.",
    )


def _plot(readings: Mapping[Key, Mapping[str, Spread]]) -> Plot:
    labels = [KEYS[key] for key in readings]
    series = [
        points(NAMES[name], labels, [found[name] for found in readings.values()]) for name in NAMES
    ]
    return Plot(
        "oracle",
        "Pruned for training and for search",
        "trained on",
        "accuracy, or correlation",
        "marks",
        series,
        "Means over seeds with 95 % limits.",
    )


STUDIES.register("oracle")(Oracle())
