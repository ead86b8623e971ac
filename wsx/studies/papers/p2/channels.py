"""What does sharing channels cost? P2's dynamic channelling on NAS-Bench-101, beside spaces that need none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.analysis.uncertainty import Spread, spread
from wsx.errors import StudyError
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable, limits
from wsx.search import TruthLookup
from wsx.spaces import SPACES, Arch
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.nasbench201 import P2, nasbench201_settings
from wsx.studies.papers.p2.own_truth import OwnTruthSettings
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.variants import (
    COLUMNS,
    Variant,
    accuracy_of,
    columns_heads,
    columns_of,
    columns_table_row,
    difference,
    score_step,
    train_step,
)
from wsx.training import RECIPES
from wsx.training.run import RunConfig

Array = NDArray[np.float64]
Columns = dict[str, Spread]
FULL = "nasbench101"
SHOWN = ("accuracy", "kendall_tau", "sparse_tau", "surpass_random", "final")
QUOTED = f"{P2}, as a third party quotes it"
POURCHOT = "arXiv 2002.04289"
MAX_DRAWS = 200_000
SLICINGS = ("fixed", "random", "shuffle", "interpolate", "chunks")
SUBSPACES = tuple(f"{FULL}-{name}" for name in ("1shot1c", "a1", "a2", "a3", "a4"))
# Spearman of the baseline, mean and deviation over 5 seeds, from published scores of 1,000 archs (POURCHOT).
PUBLISHED = {
    FULL: (0.551, 0.050),
    f"{FULL}-a1": (0.664, 0.026),
    f"{FULL}-a2": (0.585, 0.047),
    f"{FULL}-a3": (0.594, 0.032),
    f"{FULL}-a4": (0.642, 0.036),
}


@dataclass(frozen=True)
class ChannelsSettings(OwnTruthSettings):
    """Numbers of the study.

    Attributes:
        slicings: How weights serve several numbers of channels in the whole space, ``fixed`` among them.
        subspaces: Spaces in which all archs need the same channels.
    """

    slicings: tuple[str, ...] = SLICINGS
    subspaces: tuple[str, ...] = SUBSPACES


class Channels(Study):
    """Supernets of the whole space that share channels in several ways, and of parts of it that need not."""

    paper = f"{P2}, its study of dynamic channelling"
    summary = "what do supernets lose by sharing weights between numbers of channels?"

    def settings(self, scale: str) -> ChannelsSettings:
        """Return the numbers of a scale; those of ``paper`` are of the paper's follow-up code."""
        values: dict[str, Any] = nasbench201_settings(scale, "p2-nasbench201") | {"space": FULL}
        macro = {"channels": 16, "stacks": 3, "cells_per_stack": 1}
        if scale == "tiny":
            macro |= {"channels": 4, "stacks": 2}
            recipe = replace(values["recipe"], measure="encodings", supernet=macro)
            values |= {"recipe": recipe, "truth": "", "n_truth_seeds": 1, "n_archs": 6}
            return ChannelsSettings(
                **values, slicings=("fixed", "chunks"), subspaces=SUBSPACES[1:2]
            )
        if scale == "small":
            recipe = replace(values["recipe"], measure="archs", supernet=macro)
            return ChannelsSettings(**values | {"recipe": recipe}, n_archs=100)
        recipe = replace(
            RECIPES["p1-nasbench101"],
            epochs=200,
            batch_size=128,
            lr=0.025,
            lr_min=0.001,
            measure="archs",
            checkpoint_epochs=50,
            supernet={"channels": 64, "stacks": 3, "cells_per_stack": 3},
        )
        return ChannelsSettings(**values | {"recipe": recipe}, top_k=5)

    def steps(self, settings: ChannelsSettings, folder: Path) -> Sequence[Step]:
        """Train supernets, and score archs of each space with all supernets that have them."""
        texts = _drawn(settings)
        variants = _variants(settings)
        scored = {name: texts[one.config.space] for name, one in variants.items()}
        everything = tuple(dict.fromkeys(text for some in texts.values() for text in some))
        scored["fixed"] = everything
        return [
            train_step(list(variants.values()), settings),
            *(score_step(one, settings, scored[name]) for name, one in variants.items()),
            *settings.truth_steps(everything),
        ]

    def findings(self, settings: ChannelsSettings, folder: Path) -> Findings:
        """Compare ways to share in the whole space, and supernets of parts with that of the whole."""
        texts, variants = _drawn(settings), _variants(settings)
        lookup = TruthLookup(settings.truth_in(folder), SPACES[FULL])

        def columns(name: str, space: str) -> Columns:
            accuracy = accuracy_of(variants[name], settings, folder, texts[space])[:, -1]
            return columns_of(accuracy, _truth(lookup, texts[space]), settings.top_k)

        ways = {name: columns(name, FULL) for name in settings.slicings}
        whole = {space: columns("fixed", space) for space in settings.subspaces}
        own = {space: columns(_short(space), space) for space in settings.subspaces}
        return Findings(
            "What do supernets lose by sharing weights between numbers of channels?",
            f"{len(settings.seeds)} seeds of each supernet, {settings.n_archs} archs of each space, "
            f"{settings.data.spec}.",
            _claims(ways, whole, own),
            [_ways_table(ways), _spaces_table(whole, own), _published(ways["fixed"], own)],
            [_plot(ways, whole, own)],
            {**settings.as_dict(), "published": f"{P2}; {POURCHOT}"},
        )


def _short(space: str) -> str:
    return space.removeprefix(f"{FULL}-")


def _variants(settings: ChannelsSettings) -> dict[str, Variant]:
    """Return the supernets by name: of the whole space by slicing, of its parts by theirs.

    Raises:
        StudyError: There is nothing to compare with.
    """
    if "fixed" not in settings.slicings:
        raise StudyError("slicings lack 'fixed', which the others are compared with; add it")
    configs: dict[str, RunConfig] = {}
    for slicing in settings.slicings:
        macro = {**settings.recipe.supernet, "slicing": slicing}
        recipe = replace(settings.recipe, supernet=macro)
        configs[slicing] = settings.run_config(recipe, settings.seeds[0])
    for space in settings.subspaces:
        configs[_short(space)] = replace(configs["fixed"], space=space)
    return {name: Variant(name, name, config, settings.bn) for name, config in configs.items()}


def _drawn(settings: ChannelsSettings) -> dict[str, tuple[str, ...]]:
    """Return the archs to score of each space; where a table is given, such as it knows.

    Raises:
        StudyError: There is no truth, it knows too few archs, or too few are asked for.
        TruthError: It cannot be read.
    """
    if settings.n_archs < max(settings.top_k, 2):
        raise StudyError(
            f"n_archs is {settings.n_archs}; it must be at least 2, and top_k, which is {settings.top_k}"
        )
    lookup = None
    if not settings.trains_truth:
        lookup = TruthLookup(settings.load_truth(), SPACES[FULL])
    return {space: _draw(space, settings, lookup) for space in (FULL, *settings.subspaces)}


def _draw(space: str, settings: ChannelsSettings, lookup: TruthLookup | None) -> tuple[str, ...]:
    rng = np.random.default_rng(settings.archs_seed)
    # Encodings of one cell are one arch here: they share their truth.
    found: dict[str, Arch] = {}
    for _ in range(MAX_DRAWS):
        arch = SPACES[space].draw(rng=rng, measure=settings.recipe.measure)
        if lookup is None or lookup.row(arch) is not None:
            found.setdefault(SPACES[space].truth_text(arch), arch)
        if len(found) == settings.n_archs:
            return tuple(SPACES[space].format(arch) for arch in found.values())
    raise StudyError(
        f"of {MAX_DRAWS} archs drawn from {space} the truth knows {len(found)} different ones; {settings.n_archs} "
        "are asked for. Lower n_archs, or leave the space out of subspaces"
    )


def _truth(lookup: TruthLookup, texts: Sequence[str]) -> Array:
    return np.array(lookup.score([SPACES[FULL].parse(text) for text in texts], lambda n: None))


def _claims(
    ways: Mapping[str, Columns], whole: Mapping[str, Columns], own: Mapping[str, Columns]
) -> list[Claim]:
    recomputed = f"{POURCHOT}, recomputed from its published scores"
    alone, together = _mean("sparse_tau", own), _mean("sparse_tau", whole)
    inside, outside = _mean("spearman", own), ways["fixed"]["spearman"].values
    claims = [
        claim_over_seeds(
            "Archs that all need the same channels are ranked better by a supernet of their own than by one "
            "of the whole space, which shares channels.",
            recomputed,
            spread(alone - together, "gain"),
            f"sparse tau {alone.mean():.3f} of supernets of their own, {together.mean():.3f} of the whole "
            f"space's on the same archs, means of {len(own)} parts: difference",
        ),
        claim_over_seeds(
            "Rankings agree better with truth inside such parts than in the whole space.",
            recomputed,
            spread(inside - outside, "gain"),
            f"Spearman {inside.mean():.3f} inside, mean of {len(own)} parts, {outside.mean():.3f} in the "
            "whole space, on its own archs: difference",
        ),
    ]
    if "chunks" in ways:
        gain = difference(ways["chunks"]["sparse_tau"], ways["fixed"]["sparse_tau"])
        text = "Sharing weights between numbers of channels hurts: weights of their own for each rank better."
        claims.append(
            claim_over_seeds(text, QUOTED, gain, "sparse tau of chunks less that of fixed:")
        )
    return claims


def _mean(name: str, columns: Mapping[str, Columns]) -> Array:
    """Return the mean of a number over spaces, shape (seed,)."""
    mean: Array = np.mean([found[name].values for found in columns.values()], axis=0)
    return mean


def _ways_table(ways: Mapping[str, Columns]) -> ResultTable:
    rows: list[list[Cell]] = []
    for name, found in ways.items():
        change = difference(found["sparse_tau"], ways["fixed"]["sparse_tau"])
        gap = limits(change.low, change.high) if name != "fixed" else ""
        rows.append([*columns_table_row(name, found, SHOWN), change.mean, gap])
    return ResultTable(
        "Ways to share channels in the whole space",
        [*columns_heads("slicing", SHOWN), "sparse tau less that of fixed", "95 % over seeds"],
        rows,
        "fixed: the first channels; random: a run of channels; shuffle: any; interpolate: means of "
        "neighbours; chunks: weights of their own for each number. The paper's own figures are not known to "
        "us.",
    )


def _spaces_table(whole: Mapping[str, Columns], own: Mapping[str, Columns]) -> ResultTable:
    rows: list[list[Cell]] = []
    names = ("sparse_tau", "final")
    for space in own:
        row: list[Cell] = [space]
        for name in names:
            pair = own[space][name], whole[space][name]
            for one in (*pair, difference(*pair)):
                row += [one.mean, limits(one.low, one.high)]
        rows.append(row)
    heads = [
        head
        for name in names
        for which in ("own supernet", "whole space's", "difference")
        for head in (f"{which}: {COLUMNS[name]}", "95 % over seeds")
    ]
    return ResultTable("The same archs under two supernets", ["archs of", *heads], rows)


def _published(full: Columns, own: Mapping[str, Columns]) -> ResultTable:
    rows: list[list[Cell]] = []
    for space, found in {FULL: full, **own}.items():
        row = columns_table_row(space, found, ("spearman",))
        rows.append([*row, *PUBLISHED.get(space, (None, None))])
    return ResultTable(
        "Each space under its own supernet, on its own archs",
        [*columns_heads("space", ("spearman",)), "published Spearman", "deviation over 5 seeds"],
        rows,
        f"Published: recomputed from the scores of 1,000 archs that came with {POURCHOT} (108 epochs, 16 "
        "channels).",
    )


def _plot(
    ways: Mapping[str, Columns], whole: Mapping[str, Columns], own: Mapping[str, Columns]
) -> Plot:
    named = {
        "whole space's supernets, on archs of the whole space": ways,
        "whole space's supernet, on archs of a part": {_short(s): c for s, c in whole.items()},
        "a part's own supernet": {_short(s): c for s, c in own.items()},
    }
    return Plot(
        "sparse-tau",
        "Sparse tau by way to share channels, and by part of the space",
        "slicing, or archs of",
        "sparse tau with truth",
        "marks",
        [
            points(name, list(found), [one["sparse_tau"] for one in found.values()])
            for name, found in named.items()
        ],
        "Means over seeds with 95 % limits.",
    )


STUDIES.register("channels")(Channels())
