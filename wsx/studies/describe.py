"""What there is to know of the spaces, for people and machines; needs no torch."""

from typing import Any

import numpy as np

from wsx.spaces import SPACES


def list_spaces() -> list[dict[str, Any]]:
    """Return name, size and summary of every space."""
    return [
        {
            "name": space.name,
            "n_archs": space.n_archs,
            "n_decisions": len(space.decisions),
            "summary": space.summary,
        }
        for space in SPACES.values()
    ]


def describe_space(name: str) -> dict[str, Any]:
    """Return what one space is: decisions, measures with their sizes, an example of its text form.

    Raises:
        UnknownNameError: There is no such space.
    """
    space = SPACES[name]
    sizes = {
        measure: len(listed) if (listed := give()) is not None else space.n_archs
        for measure, give in space.measures.items()
    }
    example = space.sample(1, rng=np.random.default_rng(0), measure=next(iter(sizes)))[0]
    return {
        "summary": space.summary,
        "encodings": space.n_archs,
        "decisions": {decision.name: list(decision.options) for decision in space.decisions},
        "measures": sizes,
        "example": space.format(example),
    }
