"""Many campaigns read back as one array: the same archs at many checkpoints of one or several runs.

Needs no torch. A run is what determined it: space, recipe, data and seed, as its campaigns' info says.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsx.errors import ShapeError, StoreError, StoreKeyError
from wsx.store import ScoreKey, ScoreStore, ScoreTable, open_store

FACTS = ("run", "run_seed", "run_config", "checkpoint", "step", "epoch")
FINETUNE = "finetune"
"""Name in a campaign's info under which it says how its subnets were fine-tuned."""
TUNED_BY = ("lr", "seed", "momentum")

Keeps = Callable[[ScoreKey, Mapping[str, Any]], bool]
"""Says of a campaign, by its key and its info, whether it belongs."""


@dataclass(frozen=True, eq=False)
class Panel:
    """The same archs on the same images at the same checkpoints of every run.

    Attributes:
        key: What the campaigns share; its ``checkpoint_sha256`` is empty.
        runs: Folder names of the runs.
        seeds: int64 (run,), their seeds.
        configs: What determined each run: space, recipe, data and seed.
        checkpoints: Names of the checkpoints, in the order of their steps; ``epoch-0100+4`` is one whose subnets
            were fine-tuned for four batches.
        steps: int64 (run, checkpoint), steps that the supernet was trained for.
        epochs: int64 (run, checkpoint), epochs that it was trained for, begun ones counted.
        n_batches: int64 (checkpoint,), batches that subnets were fine-tuned for, 0 for none.
        archs: Text forms of the archs.
        decisions: int16 (arch, decision), the archs.
        image_ids: int64 (image,), which images were scored.
        correct: int64 (run, checkpoint, arch), images classified correctly.
        total: int64 (run, checkpoint, arch), images scored; 0 where there is no score.
        loss_sum: float64 (run, checkpoint, arch), cross-entropy summed over images, nats; nan without score.
        params: int64 (arch,), -1 where unknown.
        flops: int64 (arch,), -1 where unknown.
        bits: uint8 (run, checkpoint, arch, image/8), packed outcomes, where they were asked for.
    """

    key: ScoreKey
    runs: tuple[str, ...]
    seeds: NDArray[np.int64]
    configs: tuple[dict[str, Any], ...]
    checkpoints: tuple[str, ...]
    steps: NDArray[np.int64]
    epochs: NDArray[np.int64]
    n_batches: NDArray[np.int64]
    archs: tuple[str, ...]
    decisions: NDArray[np.int16]
    image_ids: NDArray[np.int64]
    correct: NDArray[np.int64]
    total: NDArray[np.int64]
    loss_sum: NDArray[np.float64]
    params: NDArray[np.int64]
    flops: NDArray[np.int64]
    bits: NDArray[np.uint8] | None

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Fraction of images classified correctly, (run, checkpoint, arch); nan without score."""
        return np.where(self.total > 0, self.correct / np.maximum(self.total, 1), np.nan)

    @property
    def loss(self) -> NDArray[np.float64]:
        """Mean cross-entropy, nats, (run, checkpoint, arch); nan without score."""
        return self.loss_sum / np.maximum(self.total, 1)

    def outcomes(self) -> NDArray[np.bool_]:
        """Return whether each image was classified correctly, (run, checkpoint, arch, image).

        Raises:
            ShapeError: The panel was read without outcomes.
        """
        if self.bits is None:
            raise ShapeError("this panel was read without outcomes; read it with has_outcomes=True")
        return np.unpackbits(self.bits, axis=-1, count=len(self.image_ids)).astype(bool)


def read_panel(
    scores: ScoreStore | Path,
    *,
    keeps: Keeps | None = None,
    archs: Sequence[str] | None = None,
    is_finetuned: bool = False,
    has_gaps: bool = False,
    has_outcomes: bool = False,
) -> Panel:
    """Return the campaigns of a store as arrays.

    Args:
        scores: A store, or the path of a score file.
        keeps: Says of a campaign, by its key and its info, whether it belongs; None takes all.
        archs: Text forms of the archs wanted, in this order; None takes all that any
            campaign holds, by their decisions.
        is_finetuned: Read campaigns of fine-tuned subnets, and those that these started from as 0 batches;
            otherwise they are left out.
        has_gaps: Scores may be missing; otherwise that is an error.
        has_outcomes: Keep the outcome on every image, a bit each.

    Raises:
        StoreError: Scores are missing, two campaigns claim one cell, a campaign does not say where it comes from,
            or the file cannot be read.
        StoreKeyError: Campaigns differ in more than the checkpoint, in images or BatchNorm mode say.
    """
    opened = open_store(scores) if isinstance(scores, Path) else nullcontext(scores)
    with opened as store:
        kept = [
            _Cell.of(table if has_outcomes else replace(table, bits=table.bits[:, :0]))
            for table in store.tables()
            if keeps is None or keeps(table.key, table.info)
        ]
    cells = _finetuned(kept) if is_finetuned else [c for c in kept if FINETUNE not in c.facts]
    if not cells:
        kind = "of fine-tuned subnets" if is_finetuned else "of checkpoints"
        raise StoreError(f"no campaign {kind} among {len(kept)} that were asked for")
    _require_alike([cell.table for cell in cells])
    return _panel(_Grid(cells), archs, has_gaps=has_gaps, has_outcomes=has_outcomes)


@dataclass(frozen=True, eq=False)
class _Cell:
    """One campaign and its place: a run, and a checkpoint with the batches of fine-tuning."""

    table: ScoreTable
    facts: dict[str, Any]
    run: str
    checkpoint: str

    @classmethod
    def of(cls, table: ScoreTable) -> "_Cell":
        facts: dict[str, Any] = {}
        # Campaigns of older versions say where they come from once they are continued.
        for info in (*table.info.get("resumed", []), table.info):
            facts |= info
        missing = [name for name in FACTS if facts.get(name) is None]
        if missing:
            raise StoreError(
                f"campaign {_name(table)} does not say its {', '.join(missing)}, so it has no place among runs "
                "and checkpoints. If wsx evaluate wrote it, repeat the command, which scores nothing anew"
            )
        identity = json.dumps(facts["run_config"], sort_keys=True)
        n = facts.get(FINETUNE, {}).get("n_batches", 0)
        name = facts["checkpoint"] + (f"+{n}" if n else "")
        return cls(table, facts, hashlib.sha256(identity.encode()).hexdigest(), name)

    @property
    def n_batches(self) -> int:
        return int(self.facts.get(FINETUNE, {}).get("n_batches", 0))

    @property
    def label(self) -> str:
        return f"{self.facts['run']} {self.checkpoint}"


def _name(table: ScoreTable) -> str:
    return table.key.digest()[:16]


def _finetuned(cells: Iterable[_Cell]) -> list[_Cell]:
    """Return the cells of fine-tuned subnets, all tuned alike, and of the checkpoints that they started from."""
    tuned = [cell for cell in cells if FINETUNE in cell.facts]
    started = {cell.facts[FINETUNE]["checkpoint_sha256"] for cell in tuned}
    ways = {
        ", ".join(f"{name} {cell.facts[FINETUNE][name]}" for name in TUNED_BY) for cell in tuned
    }
    if len(ways) > 1:
        raise StoreKeyError(
            f"subnets were fine-tuned in several ways ({'; '.join(sorted(ways))}): keep one of them "
            "(--campaign DIGEST takes those of its kind)"
        )
    plain = (cell for cell in cells if FINETUNE not in cell.facts)
    return [cell for cell in plain if cell.table.key.checkpoint_sha256 in started] + tuned


def _require_alike(tables: Sequence[ScoreTable]) -> None:
    first = tables[0]
    for table in tables[1:]:
        differences = [
            line
            for line in first.key.differences(table.key)
            if not line.startswith("checkpoint_sha256:")
        ]
        if not np.array_equal(first.image_ids, table.image_ids):
            differences.append("image_ids")
        if differences:
            raise StoreKeyError(
                f"campaigns {_name(first)} and {_name(table)} differ in more than the checkpoint "
                f"({'; '.join(differences)}): keep those of one kind "
                "(--campaign DIGEST takes those of its kind)"
            )


class _Grid:
    """Campaigns by run and checkpoint."""

    def __init__(self, cells: Sequence[_Cell]) -> None:
        self._cells: dict[tuple[str, str], _Cell] = {}
        for cell in cells:
            other = self._cells.setdefault((cell.run, cell.checkpoint), cell)
            if other is not cell:
                raise StoreError(
                    f"campaigns {_name(other.table)} and {_name(cell.table)} are both of {cell.label}, with other "
                    "weights: one run was trained twice. Keep one of them"
                )
        by_step = sorted(cells, key=lambda c: (c.facts["step"], c.n_batches, c.checkpoint))
        self.checkpoints = {cell.checkpoint: cell.n_batches for cell in by_step}
        heads = {cell.run: cell for cell in reversed(cells)}.values()
        self.runs = sorted(heads, key=lambda c: (c.facts["run_seed"], c.facts["run"], c.run))
        self.shape = (len(self.runs), len(self.checkpoints))

    def at(self, run: int, checkpoint: str) -> _Cell | None:
        """Return a campaign, None where there is none."""
        return self._cells.get((self.runs[run].run, checkpoint))

    def facts(self, name: str) -> NDArray[np.int64]:
        """Return a fact of every campaign, (run, checkpoint); -1 where there is none."""
        cells = [[self.at(run, c) for c in self.checkpoints] for run in range(len(self.runs))]
        return np.array(
            [[-1 if c is None else c.facts[name] for c in row] for row in cells], np.int64
        )


class _Arrays:
    """Scores by (run, checkpoint, arch), filled campaign by campaign."""

    def __init__(self, grid: _Grid, archs: Sequence[str] | None, n_bytes: int) -> None:
        tables = [
            c.table for r in range(grid.shape[0]) for n in grid.checkpoints if (c := grid.at(r, n))
        ]
        self.first: dict[str, tuple[ScoreTable, int]] = {}
        for table in tables:
            for row, text in enumerate(table.text):
                self.first.setdefault(str(text), (table, row))
        if archs is None:
            archs = sorted(self.first, key=lambda text: tuple(self._row(text, "arch")))
        self.archs = tuple(dict.fromkeys(archs))
        if unknown := [text for text in self.archs if text not in self.first]:
            raise StoreError(f"no campaign holds {len(unknown)} archs, such as {unknown[0]}")
        shape = (*grid.shape, len(self.archs))
        self.correct, self.total = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self.loss_sum = np.full(shape, np.nan)
        self.bits = np.zeros((*shape, n_bytes), np.uint8)
        self.gaps: list[str] = []
        for run in range(grid.shape[0]):
            for checkpoint, name in enumerate(grid.checkpoints):
                where = f"{grid.runs[run].facts['run']} {name}"
                self._fill((run, checkpoint), grid.at(run, name), where)

    def _fill(self, place: tuple[int, int], cell: _Cell | None, where: str) -> None:
        if cell is None:
            self.gaps += [f"{where} {text} (no campaign)" for text in self.archs]
            return
        table = cell.table
        rows = {str(text): row for row, text in enumerate(table.text)}
        columns = [a for a, t in enumerate(self.archs) if t in rows and table.ok[rows[t]]]
        taken = [rows[self.archs[a]] for a in columns]
        for name in ("correct", "total", "loss_sum", "bits"):
            getattr(self, name)[place][columns] = getattr(table, name)[taken]
        for a in sorted({*range(len(self.archs))}.difference(columns)):
            row = rows.get(self.archs[a])
            why = "not scored" if row is None else f"{table.status[row]}: {table.error[row]:.80}"
            self.gaps.append(f"{where} {self.archs[a]} ({why})")

    def per_arch(self, name: str) -> NDArray[Any]:
        """Return a column, one value per arch."""
        return np.array([self._row(text, name) for text in self.archs])

    def _row(self, text: str, name: str) -> Any:
        table, row = self.first[text]
        return getattr(table, name)[row]


def _panel(
    grid: _Grid, archs: Sequence[str] | None, *, has_gaps: bool, has_outcomes: bool
) -> Panel:
    first = grid.runs[0].table
    found = _Arrays(grid, archs, first.bits.shape[1])
    if found.gaps and not has_gaps:
        raise StoreError(
            f"{len(found.gaps)} of {found.total.size} scores are missing, first {'; '.join(found.gaps[:3])}. "
            "Score them, choose archs or campaigns that are complete, or read the panel with has_gaps=True"
        )
    return Panel(
        key=replace(first.key, checkpoint_sha256=""),
        runs=tuple(cell.facts["run"] for cell in grid.runs),
        seeds=np.array([cell.facts["run_seed"] for cell in grid.runs], np.int64),
        configs=tuple(cell.facts["run_config"] for cell in grid.runs),
        checkpoints=tuple(grid.checkpoints),
        steps=grid.facts("step"),
        epochs=grid.facts("epoch"),
        n_batches=np.array(list(grid.checkpoints.values()), np.int64),
        archs=found.archs,
        decisions=found.per_arch("arch"),
        image_ids=first.image_ids,
        correct=found.correct,
        total=found.total,
        loss_sum=found.loss_sum,
        params=found.per_arch("params"),
        flops=found.per_arch("flops"),
        bits=found.bits if has_outcomes else None,
    )
