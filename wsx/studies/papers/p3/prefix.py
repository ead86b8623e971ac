"""How far up may weights be shared? P3's table 3b: archs share the stem and the first cells only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsx.analysis.uncertainty import spread
from wsx.report.findings import Cell, Claim, Findings, Plot, ResultTable
from wsx.studies.papers._base import STUDIES, Step, Study
from wsx.studies.papers.p3.cell64 import SOURCE, cell64_settings
from wsx.studies.papers.p3.windows import HEADS, Windows, WindowSettings, read_windows, slopes
from wsx.studies.papers.seeds import claim_over_seeds, points
from wsx.studies.papers.variants import Variant

TABLE = f"{SOURCE}, table 3b"
N_PUBLISHED_CELLS = 4
# GT-Tau-Mean-64 and GT-Tau-Std-64 by the number of shared cells, of 4: table 3b.
PUBLISHED = {
    0: (0.6960, 0.0129),
    1: (0.4837, 0.0939),
    2: (0.4159, 0.1925),
    3: (0.4448, 0.1881),
    4: (0.5174, 0.1592),
}


@dataclass(frozen=True)
class PrefixSettings(WindowSettings):
    """Numbers of the study of shared prefixes: cells are the recipe's."""

    @property
    def n_cells(self) -> int:
        """Cells of the supernet."""
        return int(self.recipe.supernet["cells"])

    @property
    def variants(self) -> list[Variant]:
        """The trainings, by the number of shared cells."""
        return [
            self.variant(
                f"prefix-{k}",
                _label(k, self.n_cells),
                {"groups": f"consecutive:{len(self.texts)}", "shared": f"prefix:{k}"},
            )
            for k in range(self.n_cells + 1)
        ]


class Prefix(Study):
    """Supernets whose archs share the stem and the first cells only."""

    paper = TABLE
    summary = "is a ranking steadier where archs share the first cells only?"

    def settings(self, scale: str) -> PrefixSettings:
        """Return the numbers of a scale."""
        values = cell64_settings(scale)
        # Private weights are trained once a round, so trainings are longer than elsewhere.
        n_epochs = {"tiny": 2, "small": 1_200, "paper": 2_000}[scale]
        values["recipe"] = replace(values["recipe"], epochs=n_epochs)
        if scale == "tiny":
            values["seeds"] = (0, 1)
            return PrefixSettings(**values, n_steps=4, every=3)
        values["seeds"] = (0, 1, 2)
        if scale == "small":
            # Nine has no factor in common with the round of 64: steps on all kinds of archs are seen.
            values["every"] = 9
        return PrefixSettings(**values)

    def steps(self, settings: PrefixSettings, folder: Path) -> Sequence[Step]:
        """Train all prefixes with all seeds, score the window of each, train archs alone."""
        return settings.window_steps(settings.variants)

    def findings(self, settings: PrefixSettings, folder: Path) -> Findings:
        """Compare prefixes with each other."""
        truth = settings.load_truth(folder)
        found = read_windows(settings.variants, settings, folder, truth)
        return Findings(
            "How far up may weights be shared?",
            f"{len(settings.seeds)} supernets of each kind, {len(truth.texts)} archs of {settings.space}, "
            f"{settings.n_cells} cells, {settings.recipe.epochs} epochs of {settings.data.spec}; GT-Tau over "
            f"{settings.window}.",
            _claims(settings, found),
            [_table(settings, found)],
            _plots(settings, found),
            {**settings.as_dict(), "published": SOURCE},
        )


def _claims(settings: PrefixSettings, found: Windows) -> list[Claim]:
    names = [one.name for one in settings.variants]
    mean, k = found.mean(names), np.arange(len(names))
    return [
        claim_over_seeds(
            "The fewer cells are shared, the steadier is the ranking over the last steps.",
            TABLE,
            slopes(k, found.std(names), "rise of the deviation"),
            "rise of the deviation of GT-Tau over the window with each cell that is shared",
        ),
        claim_over_seeds(
            "After long training archs that share the stem only are ranked best.",
            TABLE,
            spread(mean[0] - mean[1:].max(axis=0), "lead in GT-Tau"),
            f"GT-Tau {mean[0].mean():.3f} with the stem shared, less that of the best other number of shared "
            "cells in the same seed",
        ),
    ]


def _table(settings: PrefixSettings, found: Windows) -> ResultTable:
    rows: list[list[Cell]] = []
    for k, one in enumerate(settings.variants):
        rows.append([one.label, k, *found.cells(one.name, _published(k, settings.n_cells))])
    return ResultTable(
        "Agreement with truth, by what is shared",
        ["shared", "cells", *HEADS],
        rows,
        f"Over {settings.window}; the classifier is each arch's own. Published figures are of "
        f"{N_PUBLISHED_CELLS} cells and 2000 epochs on CIFAR-10, beside ours of the same share of the cells.",
    )


def _published(k: int, n_cells: int) -> tuple[float, float] | None:
    """Return the published figures of the same share of cells, None where there are none."""
    there, left = divmod(k * N_PUBLISHED_CELLS, n_cells)
    return None if left else PUBLISHED[there]


def _plots(settings: PrefixSettings, found: Windows) -> list[Plot]:
    names = [one.name for one in settings.variants]
    drawn = {
        "mean": ("Agreement with truth (GT-Tau)", [found.tau[name].mean for name in names]),
        "deviation": ("Deviation of GT-Tau over steps", [found.tau[name].std for name in names]),
    }
    return [
        Plot(
            key,
            title,
            "cells shared",
            title,
            "lines",
            [points("prefixes", [str(k) for k in range(len(names))], spreads)],
            "Left the stem alone is shared; limits are over seeds.",
        )
        for key, (title, spreads) in drawn.items()
    ]


def _label(k: int, n_cells: int) -> str:
    if k == 0:
        return "the stem"
    return "the stem and all cells" if k == n_cells else f"the stem and {k} of {n_cells} cells"


STUDIES.register("prefix")(Prefix())
