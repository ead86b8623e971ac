"""What is shared: which modules of a supernet are one object in all its members.

===================  ========================================================================================
``none``             nothing, members are separate nets
``prefix:K``         the stem and the first K cells, reductions before them included
``convolutions``     convolution layers
``norms``            normalisation layers, running averages included
``name:GLOB``        modules whose dotted name fits, such as ``name:*edges.2*``
===================  ========================================================================================

``A+B`` shares what either does, ``not:A`` everything else. So ``prefix:0+convolutions`` is the
``only_stem_and_conv`` of the public code of arXiv 2001.01431, ``not:norms`` its ``not_bn``.
"""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from wsx.errors import OptionError
from wsx.registry import unknown_name
from wsx.supernets._base import Supernet
from wsx.supernets.kernels import SharedConv2d
from wsx.supernets.own import OwnSupernet

IsShared = Callable[[str, nn.Module], bool]
"""Says of a module, by its dotted name, whether members share it."""

PARTS = ("none", "prefix:K", "convolutions", "norms", "name:GLOB")


def check_parts(text: str) -> None:
    """Refuse a text that names no parts.

    Raises:
        OptionError: The text has another form.
        UnknownNameError: There is no such part.
    """
    for part in text.removeprefix("not:").split("+"):
        kind, separator, rest = part.partition(":")
        takes_value = {name.partition(":")[0]: ":" in name for name in PARTS}
        if kind not in takes_value:
            raise unknown_name("shared part", part[:60], list(PARTS))
        is_number = rest.isascii() and rest.isdecimal() and len(rest) < 6
        if (
            bool(separator) is not takes_value[kind]
            or (separator and not rest)
            or (kind == "prefix" and not is_number)
        ):
            raise OptionError(
                f"shared part {part[:120]!r} must read {' or '.join(PARTS)}, with + between parts"
            )


def parts_of(supernet: Supernet, text: str) -> IsShared:
    """Return which modules of a supernet a text names.

    Raises:
        OptionError: The text has another form, more cells than the supernet has, or could name a convolution
            and not the one whose kernel it uses.
        UnknownNameError: There is no such part.
    """
    check_parts(text)
    if "name:" in text and any(isinstance(m, SharedConv2d) for m in supernet.modules()):
        raise OptionError(
            f"{text!r:.120} may share a convolution without the one whose kernel it uses; with macro option "
            "kernels other than separate, share a prefix, convolutions or norms"
        )
    tests = [_part(supernet, part) for part in text.removeprefix("not:").split("+")]
    is_negated = text.startswith("not:")
    return lambda name, module: any(test(name, module) for test in tests) is not is_negated


def _part(supernet: Supernet, part: str) -> IsShared:
    kind, _, rest = part.partition(":")
    if kind == "prefix":
        return _prefix(supernet, int(rest))
    tests: dict[str, IsShared] = {
        "none": lambda name, module: False,
        "convolutions": lambda name, module: isinstance(module, (_ConvNd, SharedConv2d)),
        "norms": lambda name, module: isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm)),
        "name": lambda name, module: fnmatchcase(name, rest),
    }
    return tests[kind]


def _prefix(supernet: Supernet, n_cells: int) -> IsShared:
    stem, *cells = cells_in_order(supernet)
    if n_cells > len(cells):
        raise OptionError(f"prefix:{n_cells} is more than the {len(cells)} cells of this supernet")
    names = [name for group in (stem, *cells[:n_cells]) for name in group]
    return lambda name, module: any(f"{name}.".startswith(f"{prefix}.") for prefix in names)


def cells_in_order(supernet: Supernet) -> list[list[str]]:
    """Return the dotted names of the modules of the stem, and then of each cell in the order of the data.

    Supernets call them ``stem``, and ``cells`` or ``layers``; or ``stages`` or ``stacks``, which are lists of
    cells, perhaps with ``reductions`` before the second and later ones. A net of one's own that names its modules
    so has cells as well.

    Raises:
        OptionError: The supernet has no modules of such names.
    """
    root, net = ("net.", supernet.net) if isinstance(supernet, OwnSupernet) else ("", supernet)
    cells: list[list[str]] = []
    for name, module in net.named_children():
        if name in ("cells", "layers"):
            cells += [[f"{name}.{i}"] for i, _ in module.named_children()]
        elif name in ("stages", "stacks"):
            for i, stage in module.named_children():
                first = len(cells)
                cells += [[f"{name}.{i}.{j}"] for j, _ in stage.named_children()]
                if int(i) and hasattr(net, "reductions"):
                    cells[first].append(f"reductions.{int(i) - 1}")
    if not cells or not hasattr(net, "stem"):
        raise OptionError(
            f"{type(supernet).__name__} has no cells in order: its modules must be called stem, and cells "
            "or layers. Share convolutions, norms or name:GLOB instead of a prefix"
        )
    return [[root + name for name in group] for group in (["stem"], *cells)]


def share(members: Sequence[nn.Module], is_shared: IsShared, prefix: str = "") -> None:
    """Put the first member's shared modules in the place of the others'.

    A module that is shared with all in it becomes one object, so that what is learnt of it while recording is
    learnt once. Of a shared module with private children the parameters become one.
    """
    first, *others = members
    for name, child in first.named_children():
        if all(is_shared(n, module) for n, module in child.named_modules(prefix=prefix + name)):
            for other in others:
                other.add_module(name, child)
        else:
            children = [child, *(other.get_submodule(name) for other in others)]
            share(children, is_shared, f"{prefix}{name}.")
    if is_shared(prefix.rstrip("."), first):
        for name, parameter in first.named_parameters(recurse=False):
            for other in others:
                other.register_parameter(name, parameter)
