"""A supernet of one's own: a plain ``nn.Module`` with ``forward(x, arch)``, tied to a space by a decorator."""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn

from wsx.errors import OptionError
from wsx.spaces import SPACES, Arch, Space
from wsx.supernets._base import SUPERNETS, MacroOptions, Supernet

Module = TypeVar("Module", bound=type[nn.Module])

_KINDS = (bool, int, float, str)
_FROM_DATA = tuple(field.name for field in dataclasses.fields(MacroOptions))


@dataclass(frozen=True)
class OwnOptions(MacroOptions):
    """What follows from the data; the module's own options are added to it."""

    def __post_init__(self) -> None:
        """Refuse sizes below one; what other options may be is the module's affair.

        Raises:
            OptionError: An integer that follows from the data is not positive.
        """
        MacroOptions(self.n_classes, self.in_channels, self.image_size)


class OwnSupernet(Supernet):
    """A plain module as the supernet of a space; made by ``supernet_of``.

    Attributes:
        net: The module.
    """

    module_type: ClassVar[type[nn.Module]]
    accepted: ClassVar[tuple[str, ...]]
    """Macro options that the module's constructor takes."""

    def __init__(self, space: Space, options: MacroOptions) -> None:
        super().__init__(space, options)
        values = dataclasses.asdict(options)
        self.net = self.module_type(**{name: values[name] for name in self.accepted})

    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return what the module does: logits (image, class), in training perhaps with auxiliary ones."""
        logits: torch.Tensor = self.net(x, arch)
        return logits


def supernet_of(space: Space) -> Callable[[Module], Module]:
    """Return a decorator that makes a module class the supernet of a space, and registers both.

    The class stays as it is. ``forward(x, arch)`` must not keep the arch and takes slices of parameters by
    ``wsx.supernets.slicing.shared_slice``. Keywords of the constructor become macro options: ``n_classes``,
    ``in_channels`` and ``image_size`` are filled in from the data, others need a default that is a truth
    value, a number or a text and are set by recipes and ``--set``.

    Raises:
        OptionError: The class is no module, or its constructor or ``forward`` has other parameters.
        DuplicateNameError: Another space or supernet has the name.
    """

    def tie(module_type: Module) -> Module:
        own = _own_options(module_type)
        _check_forward(module_type)
        options_type = dataclasses.make_dataclass(
            f"{module_type.__name__}Options",
            [(name, type(value), dataclasses.field(default=value)) for name, value in own.items()],
            bases=(OwnOptions,),
            frozen=True,
        )
        members = {
            "options_type": options_type,
            "module_type": module_type,
            "accepted": tuple(_keywords(module_type)),
            "__doc__": module_type.__doc__,
        }
        SPACES.register(space.name)(space)
        SUPERNETS.register(space.supernet)(type(module_type.__name__, (OwnSupernet,), members))
        return module_type

    return tie


def _keywords(module_type: type[nn.Module]) -> dict[str, inspect.Parameter]:
    if not (isinstance(module_type, type) and issubclass(module_type, nn.Module)):
        raise OptionError(f"{module_type!r:.120} is no class of nn.Module")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(module_type).parameters
    return {name: p for name, p in parameters.items() if p.kind not in variadic}


def _own_options(module_type: type[nn.Module]) -> dict[str, Any]:
    """Return the defaults of the constructor's keywords; those that follow from the data need none."""
    own = {}
    for name, parameter in _keywords(module_type).items():
        default = parameter.default
        if name in _FROM_DATA and default is inspect.Parameter.empty:
            continue
        if type(default) not in _KINDS or parameter.kind is parameter.POSITIONAL_ONLY:
            raise OptionError(
                f"{module_type.__name__}: option {name} needs a default that is a truth value, a number or a "
                f"text, to be set by name; {', '.join(_FROM_DATA)} need none"
            )
        own[name] = default
    return own


def _check_forward(module_type: type[nn.Module]) -> None:
    names = list(inspect.signature(module_type.forward).parameters)
    if len(names) != 3:
        raise OptionError(
            f"{module_type.__name__}.forward takes ({', '.join(names)}); it must take (self, x, arch)"
        )
