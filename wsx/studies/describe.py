"""What there is to know of the spaces, for people and machines; needs no torch."""

from decimal import Decimal
from typing import Any

import numpy as np

from wsx.errors import OptionError
from wsx.spaces import SPACES, Space, load_space

N_COSTED = 200


def list_spaces() -> list[dict[str, Any]]:
    """Return name, size, number of decisions, params, summary and an example of every space."""
    rows = []
    for name in SPACES:
        try:
            rows.append(_row(SPACES[name]))
        except OptionError as error:
            # One broken package must not hide the other spaces.
            rows.append(_broken(name, str(error)))
    return rows


def describe_space(spec: str) -> dict[str, Any]:
    """Return what one space is: decisions, measures with their sizes, costs, an example of its text form.

    Args:
        spec: What ``load_space`` takes: a name, or ``FILE.py:NAME``.

    Raises:
        UnknownNameError: There is no such space.
        OptionError: It cannot be imported.
    """
    space = load_space(spec)
    sizes = {
        measure: len(listed) if (listed := give()) is not None else space.n_archs
        for measure, give in space.measures.items()
    }
    row = _row(space)
    return {
        **row,
        "decisions": {decision.name: list(decision.options) for decision in space.decisions},
        "measures": sizes,
        "every combination is an arch": space.is_product,
        "neighbours of the example": len(space.neighbours(space.parse(row["example"]))),
        "macro of params and flops": dict(space.reference_macro),
        "supernet": space.supernet,
    }


def short_count(n: int) -> str:
    """Return a count for a table: ``15,625``, and ``2.2e17`` from a billion on."""
    return f"{n:,}" if n < 10**9 else f"{Decimal(n):.1e}".replace("e+", "e")


def short_range(counts: dict[str, int] | None) -> str:
    """Return the range of counts in millions, for a table; nothing where there is none."""
    if counts is None:
        return ""
    return f"{counts['min'] / 1e6:.3g}-{counts['max'] / 1e6:.3g} M"


def _row(space: Space) -> dict[str, Any]:
    # Other measures may take seconds to list.
    measure = "encodings" if "encodings" in space.measures else next(iter(space.measures))
    example = space.draw(rng=np.random.default_rng(0), measure=measure)
    return {
        "name": space.name,
        "n_archs": space.n_archs,
        "n_decisions": len(space.decisions),
        **_costs(space, measure),
        "summary": space.summary,
        "example": space.format(example),
    }


def _broken(name: str, problem: str) -> dict[str, Any]:
    facts = {"n_archs": 0, "n_decisions": 0, "params": None, "flops": None}
    return {"name": name, **facts, "summary": problem, "example": ""}


def _costs(space: Space, measure: str) -> dict[str, Any]:
    """Return the range of params and multiply-adds over archs, ``None`` where there is no formula."""
    macro = space.reference_macro
    rng = np.random.default_rng(0)
    is_sampled = space.n_archs > N_COSTED
    archs = (
        [space.draw(rng=rng, measure=measure) for _ in range(N_COSTED)]
        if is_sampled
        else space.enumerate()
    )
    costs = [cost for arch in archs if macro and (cost := space.cost(arch, macro)) is not None]
    ranges: dict[str, Any] = {}
    for name in ("params", "flops"):
        values = [getattr(cost, name) for cost in costs]
        ranges[name] = (
            {"min": min(values), "max": max(values), "of": len(values), "is_sampled": is_sampled}
            if values
            else None
        )
    return ranges
