"""The two texts of a DARTS arch: the genotype of Liu et al., and the JSON of choices of Zhang et al.

Both say which pairs (operation, source) a cell's nodes add up. Texts come from other people's files: they are
matched against the one form that they may have, never evaluated.
"""

import json
import re
from typing import Any

from wsx.errors import ArchError

Pair = tuple[str, int]
"""An operation and the value that it is applied to: 0 and 1 are the two cells before, 2 and up earlier nodes."""
Node = tuple[Pair, Pair]
Cell = tuple[Node, ...]

CELL_KINDS = ("normal", "reduce")
N_NODES = 4
N_SOURCES = 2
TARGETS = range(N_SOURCES, N_SOURCES + N_NODES)

_MAX_LENGTH = 5000
_PAIR = r"\('\w+',[0-9]\)"
_PAIRS = rf"\[({_PAIR}(?:,{_PAIR}){{{2 * N_NODES - 1}}}),?\]"
_CONCAT = r"(?:range\(2,6\)|\[2,3,4,5\])"
_GENOTYPE = re.compile(
    rf"Genotype\(normal={_PAIRS},normal_concat={_CONCAT},reduce={_PAIRS},reduce_concat={_CONCAT}\)"
)
_AROUND = re.compile(r"\s*([,()\[\]=])\s*")
_PAIR_PARTS = re.compile(r"\('(\w+)',([0-9])\)")


def format_genotype(normal: Cell, reduce: Cell) -> str:
    """Return the genotype, such as ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)``."""
    normal_pairs, reduce_pairs = (
        [pair for node in cell for pair in node] for cell in (normal, reduce)
    )
    return (
        f"Genotype(normal={normal_pairs}, normal_concat=range(2, 6), "
        f"reduce={reduce_pairs}, reduce_concat=range(2, 6))"
    )


def format_choices(normal: Cell, reduce: Cell) -> str:
    """Return the JSON of choices, such as ``{"normal/2/0/input":0,"normal/2/0/op":"sep_conv_3x3",...}``."""
    choices: dict[str, str | int] = {}
    for kind, cell in zip(CELL_KINDS, (normal, reduce), strict=True):
        for target, node in zip(TARGETS, cell, strict=True):
            for slot, (operation, source) in enumerate(node):
                choices[f"{kind}/{target}/{slot}/op"] = operation
                choices[f"{kind}/{target}/{slot}/input"] = source
    return json.dumps(choices, sort_keys=True, separators=(",", ":"))


def parse_cells(text: str) -> tuple[Cell, Cell]:
    """Return the normal and the reduction cell of either text; spaces and kinds of quotes do not matter.

    Operations and sources are not checked against any space.

    Raises:
        ArchError: The text has another form.
    """
    if len(text) > _MAX_LENGTH:
        raise ArchError(
            f"arch {text[:60]!r}... has {len(text)} characters; genotypes have some 500"
        )
    if text.lstrip().startswith("{"):
        return _parse_choices(text)
    # Space is free between tokens and nowhere else: a name with a blank in it is no operation.
    compact = _AROUND.sub(r"\1", text.strip())
    match = _GENOTYPE.fullmatch(compact.replace('"', "'"))
    if match is None:
        raise ArchError(
            f"arch {text[:200]!r} must read Genotype(normal=[PAIRS], normal_concat=range(2, 6), "
            f"reduce=[PAIRS], reduce_concat=range(2, 6)), PAIRS being 8 of ('operation', source)"
        )
    normal, reduce = (
        [(operation, int(source)) for operation, source in _PAIR_PARTS.findall(pairs)]
        for pairs in match.groups()
    )
    return _nodes(normal), _nodes(reduce)


def _nodes(pairs: list[Pair]) -> Cell:
    return tuple(zip(pairs[::2], pairs[1::2], strict=True))


def _parse_choices(text: str) -> tuple[Cell, Cell]:
    try:
        choices = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchError(f"arch {text[:200]!r} is no JSON: {error}") from error
    normal, reduce = (
        [
            (
                _choice(choices, f"{kind}/{target}/{slot}/op", str),
                _choice(choices, f"{kind}/{target}/{slot}/input", int),
            )
            for target in TARGETS
            for slot in range(2)
        ]
        for kind in CELL_KINDS
    )
    n_expected = 2 * len(normal) + 2 * len(reduce)
    if len(choices) != n_expected:
        raise ArchError(f"arch {text[:200]!r} has {len(choices)} keys; it needs {n_expected}")
    return _nodes(normal), _nodes(reduce)


def _choice(choices: dict[str, Any], key: str, kind: type) -> Any:
    if key not in choices:
        raise ArchError(f"the arch in JSON has no key {key!r}")
    value = choices[key]
    # A bool passes for an int with isinstance.
    if type(value) is not kind:
        raise ArchError(
            f"the arch in JSON has {str(value)[:60]!r} for {key!r}; it must be of type {kind.__name__}"
        )
    return value
