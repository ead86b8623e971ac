"""Every contract on every space of wsx, with supernets small enough for it.

A space without an entry in ``SMALLEST`` fails: add the fewest channels, cells and pixels that its supernet takes.
"""

from typing import Any, NamedTuple

import pytest

from wsx.contracts import CONTRACTS, DESCRIPTION, check_contract, check_space, subject_of
from wsx.spaces import SPACES
from wsx.supernets import SUPERNETS


class Smallest(NamedTuple):
    """Options of a supernet, and how many archs to look at.

    ``same_as`` names a space of the same family whose supernet is checked instead: of a family with one supernet
    the others' descriptions are enough. ``is_slow`` keeps it out of the fast tests.
    """

    options: dict[str, Any]
    n_archs: int = 6
    same_as: str | None = None
    is_slow: bool = False


NASBENCH101 = {
    "channels": 8,
    "stacks": 2,
    "cells_per_stack": 1,
    "n_classes": 3,
    "image_size": 6,
}

DARTS = {"channels": 2, "cells": 3, "n_classes": 3, "image_size": 8}

SMALLEST: dict[str, Smallest] = {
    "nasbench201": Smallest({"channels": 4, "cells": 1, "n_classes": 5, "image_size": 9}),
    "cell64": Smallest({"channels": 2, "cells": 1, "n_classes": 3, "image_size": 6}),
    "darts": Smallest(DARTS, is_slow=True),
    "darts-nds": Smallest(DARTS, is_slow=True),
    "darts-ptb": Smallest({"n_tokens": 20, "hidden_size": 6}),
    # At 32 pixels the last stages are one pixel large, and statistics of a small batch ill-conditioned.
    "proxylessnas": Smallest({"width_percent": 10, "n_classes": 3, "image_size": 64}, is_slow=True),
    "nasbenchmacro": Smallest({"channels": 4, "n_classes": 3, "image_size": 16}, is_slow=True),
    "nasbench101": Smallest(NASBENCH101, is_slow=True),
    **{
        f"nasbench101-{name}": Smallest(NASBENCH101, is_slow=name != "v3", same_as="nasbench101")
        for name in ("a1", "a2", "a3", "a4", "residual", "no-residual", "v3", "v4", "v5", "v6")
    },
    "nasbench101-1shot1c": Smallest(NASBENCH101, is_slow=True, same_as="nasbench101"),
}


def smallest(name):
    if name not in SMALLEST:
        pytest.fail(
            f"space {name} has no entry in SMALLEST of {__file__}; no contract was checked on it"
        )
    return SMALLEST[name]


def marked(name):
    is_slow = name in SMALLEST and SMALLEST[name].is_slow
    return pytest.param(name, marks=[pytest.mark.slow] * is_slow)


@pytest.mark.parametrize("name", [marked(name) for name in SPACES])
def test_every_space_keeps_every_contract(name):
    small = smallest(name)
    if small.same_as is not None:
        assert SPACES[name].supernet == SPACES[small.same_as].supernet
        assert smallest(small.same_as).same_as is None
        for contract in DESCRIPTION:
            check_contract(contract, subject_of(name, n_archs=small.n_archs))
        return
    report = check_space(name, supernet_options=small.options, n_archs=small.n_archs)
    reads_text = SUPERNETS[SPACES[name].supernet].reads_text
    assert set(report.passed) == set(DESCRIPTION if reads_text else CONTRACTS)


def test_the_table_names_no_space_that_is_gone():
    assert set(SMALLEST) <= set(SPACES)
