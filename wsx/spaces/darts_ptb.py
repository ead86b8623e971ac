"""DARTS-PTB: recurrent cells of eight nodes, an activation and a predecessor for each.

Node i reads the state of one earlier node (0 is the cell's own input stage) and the cell's output is the mean
of all eight (Liu et al., ICLR 2019; the space of P1, arXiv 2010.08219). All weights are shared by all archs,
so every arch has the same cost.
"""

import ast
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from wsx.errors import ArchError
from wsx.registry import unknown_name
from wsx.spaces._base import SPACES, Arch, Cost, Decision, Space

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
TANH, RELU, SIGMOID, IDENTITY = range(4)
N_NODES = 8

_P1_NAMES = tuple(f"{kind}/{node}" for node in range(N_NODES) for kind in ("act", "switch"))
_MAX_TEXT = 2000


class DartsPtb(Space):
    """The 4^8 * 8! recurrent cells of DARTS-PTB."""

    name = "darts-ptb"
    summary = "recurrent cells of 8 nodes, an activation and a predecessor each; for text"

    @property
    def reference_macro(self) -> Mapping[str, int]:
        """The published model: 850 units, the 10,000 words of the Penn Treebank."""
        return {"hidden_size": 850, "n_tokens": 10_000}

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """An activation and a predecessor per node, node by node; predecessor 0 is the input stage."""
        return tuple(
            decision
            for node in range(1, N_NODES + 1)
            for decision in (
                Decision(f"activation {node}", ACTIVATIONS),
                Decision(f"predecessor {node}", tuple(map(str, range(node)))),
            )
        )

    def format(self, arch: Arch) -> str:
        """Return DARTS's genotype, such as ``Genotype(recurrent=[('tanh', 0), ...], concat=range(1, 9))``."""
        nodes = [
            (ACTIVATIONS[activation], source) for activation, source in nodes_of(self.check(arch))
        ]
        return f"Genotype(recurrent={nodes}, concat=range(1, {N_NODES + 1}))"

    def parse(self, text: str) -> Arch:
        """Return the arch of a genotype, or of P1's JSON object of ``act/0..7`` and ``switch/0..7``.

        Raises:
            ArchError: The text is neither, or names a node that a node cannot read.
            UnknownNameError: An activation is not one of the four.
        """
        if len(text) > _MAX_TEXT:
            raise ArchError(
                f"arch {text[:60]!r}... has {len(text)} characters; no cell has as many"
            )
        is_json = text.lstrip().startswith("{")
        return self.check(_parse_json(text) if is_json else _parse_genotype(text.strip()))

    def cost(self, arch: Arch, macro: Mapping[str, int]) -> Cost:
        """Return params and multiply-adds per token, the same for every arch.

        Looking an embedding up is free; the decoder shares the embedding's weights and has a bias.

        Args:
            arch: The arch.
            macro: ``hidden_size`` (also of embeddings) and ``n_tokens`` (words of the vocabulary).
        """
        self.check(arch)
        width, n_tokens = macro["hidden_size"], macro["n_tokens"]
        cell = 2 * width * 2 * width + N_NODES * width * 2 * width
        decoder = (width + 1) * n_tokens
        return Cost(params=cell + decoder, flops=cell + decoder)


def nodes_of(arch: Arch) -> list[tuple[int, int]]:
    """Return activation and predecessor of each node, in order."""
    return list(zip(arch[::2], arch[1::2], strict=True))


def _parse_json(text: str) -> Arch:
    try:
        values: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchError(f"arch {text[:200]!r} is no JSON object: {error}") from None
    if set(values) != set(_P1_NAMES):
        wrong = sorted(set(values) ^ set(_P1_NAMES))
        raise ArchError(
            f"arch {text[:200]!r}: act/0..7 and switch/0..7 are needed; see {wrong[:4]}"
        )
    if any(type(value) is not int for value in values.values()):
        raise ArchError(f"arch {text[:200]!r}: every value must be an integer")
    return tuple(values[name] for name in _P1_NAMES)


def _parse_genotype(text: str) -> Arch:
    call = _call(text)
    fields = {keyword.arg: keyword.value for keyword in call.keywords}
    if set(fields) != {"recurrent", "concat"} or call.args:
        raise ArchError(
            f"arch {text[:200]!r}: Genotype takes recurrent=[...] and concat=range(1, 9)"
        )
    if ast.unparse(fields["concat"]) != f"range(1, {N_NODES + 1})":
        raise ArchError(f"arch {text[:200]!r}: concat must be range(1, {N_NODES + 1})")
    try:
        nodes = ast.literal_eval(fields["recurrent"])
    except ValueError:
        nodes = None
    if not isinstance(nodes, list) or len(nodes) != N_NODES:
        raise ArchError(f"arch {text[:200]!r}: recurrent must be a list of {N_NODES} pairs")
    return tuple(option for node in nodes for option in _parse_node(node, text))


def _call(text: str) -> ast.Call:
    try:
        expression = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        expression = None
    is_genotype = (
        isinstance(expression, ast.Call)
        and isinstance(expression.func, ast.Name)
        and expression.func.id == "Genotype"
    )
    if not is_genotype:
        raise ArchError(
            f"arch {text[:200]!r} is neither Genotype(recurrent=[...], concat=range(1, {N_NODES + 1})) "
            "nor a JSON object of act/0..7 and switch/0..7"
        )
    assert isinstance(expression, ast.Call)
    return expression


def _parse_node(node: Any, text: str) -> tuple[int, int]:
    is_pair = isinstance(node, tuple) and len(node) == 2
    if not is_pair or not isinstance(node[0], str) or type(node[1]) is not int:
        raise ArchError(f"arch {text[:200]!r}: {node!r} must be ('activation', predecessor)")
    if node[0] not in ACTIVATIONS:
        raise unknown_name("darts-ptb activation", node[0], list(ACTIVATIONS))
    return ACTIVATIONS.index(node[0]), node[1]


DARTS_PTB = DartsPtb()
SPACES.register(DARTS_PTB.name)(DARTS_PTB)
