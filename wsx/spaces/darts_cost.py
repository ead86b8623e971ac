"""The macro of DARTS' evaluation network, cell by cell, and what a subnet of it costs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from wsx.spaces._base import Cost
from wsx.spaces.darts_genotype import N_NODES, N_SOURCES, Cell

STEM_MULTIPLIER = 3
KERNELS = {"sep_conv_3x3": 3, "sep_conv_5x5": 5, "dil_conv_3x3": 3, "dil_conv_5x5": 5}
N_SEPARABLE = {"sep_conv_3x3": 2, "sep_conv_5x5": 2, "dil_conv_3x3": 1, "dil_conv_5x5": 1}


@dataclass(frozen=True)
class CellShape:
    """The place of a cell in the network.

    Attributes:
        is_reduction: The cell halves the size and has doubled the width.
        follows_reduction: The cell before it does, so that the one before that is larger.
        width: Channels of each node.
        before: Channels of the output of the cell before the last.
        last: Channels of the output of the last cell.
        size_in: Pixels a side of the last cell's output.
        size_out: Pixels a side of the own output.
    """

    is_reduction: bool
    follows_reduction: bool
    width: int
    before: int
    last: int
    size_in: int
    size_out: int


def cell_shapes(macro: Mapping[str, int]) -> Iterator[CellShape]:
    """Yield the cells of a network; those at a third and two thirds of the depth are reductions.

    Args:
        macro: ``channels``, ``cells`` and ``image_size``.
    """
    width, size, n_cells = macro["channels"], macro["image_size"], macro["cells"]
    before = last = STEM_MULTIPLIER * width
    follows_reduction = False
    for position in range(n_cells):
        is_reduction = position in {n_cells // 3, 2 * n_cells // 3}
        width, size_out = (2 * width, (size + 1) // 2) if is_reduction else (width, size)
        yield CellShape(is_reduction, follows_reduction, width, before, last, size, size_out)
        before, last, size, follows_reduction = last, N_NODES * width, size_out, is_reduction


def network_cost(normal: Cell, reduce: Cell, macro: Mapping[str, int]) -> Cost:
    """Return params and multiply-adds of a subnet without its auxiliary head.

    Args:
        normal: The normal cell.
        reduce: The reduction cell.
        macro: ``channels``, ``cells``, ``n_classes``, ``in_channels`` and ``image_size`` (pixels a side);
            ``is_affine`` may be false.
    """
    per_norm = 2 if macro.get("is_affine", True) else 0
    stem = STEM_MULTIPLIER * macro["channels"]
    params = macro["in_channels"] * 9 * stem + per_norm * stem
    flops = macro["in_channels"] * 9 * stem * macro["image_size"] ** 2
    last = stem
    for shape in cell_shapes(macro):
        preprocessing = (shape.before + shape.last) * shape.width
        params += preprocessing + 2 * per_norm * shape.width
        flops += preprocessing * shape.size_in**2
        for weights, n_norms in _operations(reduce if shape.is_reduction else normal, shape):
            params += weights + n_norms * per_norm * shape.width
            flops += weights * shape.size_out**2
        last = N_NODES * shape.width
    classifier = (last + 1) * macro["n_classes"]
    return Cost(params + classifier, flops + classifier)


def first_depthwise_flops(normal: Cell, reduce: Cell, macro: Mapping[str, int]) -> int:
    """Return the multiply-adds of the first depthwise convolution of every separable one."""
    return sum(
        KERNELS[operation] ** 2 * shape.width * shape.size_out**2
        for shape in cell_shapes(macro)
        for node in (reduce if shape.is_reduction else normal)
        for operation, _ in node
        if operation in KERNELS
    )


def _operations(cell: Cell, shape: CellShape) -> Iterator[tuple[int, int]]:
    """Yield the weights and the number of BatchNorm layers of each operation of a cell."""
    width = shape.width
    for node in cell:
        for operation, source in node:
            if operation in KERNELS:
                n = N_SEPARABLE[operation]
                yield n * (KERNELS[operation] ** 2 * width + width * width), n
            elif operation == "skip_connect" and shape.is_reduction and source < N_SOURCES:
                yield width * width, 1
