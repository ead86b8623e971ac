"""The weight-sharing module: ``supernet(x, arch)``, with the arch as an argument and no memory of it."""

import abc
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import nn

from wsx.errors import OptionError
from wsx.registry import Registry, unknown_name
from wsx.spaces import Arch, Space


@dataclasses.dataclass(frozen=True)
class SupernetOptions(abc.ABC):
    """What a supernet is built from, by name."""

    def __post_init__(self) -> None:
        """Refuse sizes below one.

        Raises:
            OptionError: An integer option is not positive.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < 1:
                raise OptionError(f"{field.name} is {value}; it must be at least 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the options of a mapping; the inverse of ``dataclasses.asdict``.

        Raises:
            UnknownNameError: A key is not an option.
            OptionError: A value has another type than the option's default.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        built_from = dict(values)
        for name, value in values.items():
            if name not in fields:
                raise unknown_name("supernet option", name, sorted(fields))
            kind = type(fields[name].default)
            if kind is float and type(value) is int:
                built_from[name] = float(value)
            elif type(value) is not kind:
                raise OptionError(
                    f"supernet option {name} is {value!r}; it must be of type {kind.__name__}"
                )
        return cls(**built_from)

    @property
    @abc.abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, or of one token, which has no axes."""


@dataclasses.dataclass(frozen=True)
class MacroOptions(SupernetOptions):
    """What every image supernet needs to know of its data."""

    n_classes: int = 10
    in_channels: int = 3
    image_size: int = 32

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image (channel, height, width)."""
        return (self.in_channels, self.image_size, self.image_size)


class Supernet(nn.Module, abc.ABC):
    """Shared weights of a whole space.

    **Statelessness.** ``forward`` reads the arch from its argument; two archs can be in flight at once.

    **Recordability.** Between input and output only torch functions that have an emitter are applied.
    """

    options_type: ClassVar[type[SupernetOptions]]
    reads_text: ClassVar[bool] = False
    """Whether inputs are windows of text with a hidden state, see ``TextSupernet``; otherwise images."""

    def __init__(self, space: Space, options: SupernetOptions) -> None:
        super().__init__()
        self.space = space
        self.options = options

    @abc.abstractmethod
    def forward(self, x: torch.Tensor, arch: Arch) -> torch.Tensor:
        """Return logits (image, class) of images (image, channel, height, width) under an arch."""

    def example_inputs(self, n: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Return random inputs of n images: the first goes before the arch in ``forward``, others after it."""
        return (torch.randn(n, *self.options.input_shape, generator=generator),)

    def macro(self) -> dict[str, int]:
        """Return the options that a subnet's cost depends on."""
        return {
            name: value
            for name, value in dataclasses.asdict(self.options).items()
            if isinstance(value, int)
        }


SUPERNETS: Registry[type[Supernet]] = Registry("supernet", group="wsx.supernets", base=type)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's default generator inside the block and restore its state after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def reset_parameters(module: nn.Module, *, seed: int) -> None:
    """Initialise every layer of a module afresh, as its class does, in the order of ``modules()``."""
    with seeded(seed):
        for child in module.modules():
            reset = getattr(child, "reset_parameters", None)
            if callable(reset):
                reset()
