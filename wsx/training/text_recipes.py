"""Recipes for supernets that read text."""

import dataclasses
from dataclasses import dataclass

from wsx.errors import OptionError
from wsx.training.recipes import RECIPES, Recipe


@dataclass(frozen=True)
class TextRecipe(Recipe):
    """How a language model is trained: SGD at a constant rate, then averaged weights (Merity et al., 2018).

    Epochs are passes over the text, ``batch_size`` counts streams, and the rate of a step is in proportion to its
    window. What a recipe for images has besides, text does not use; it must stay as it is.

    Attributes:
        window: Tokens per step, on average: gradients reach no further back.
        window_std: Standard deviation of the tokens per step.
        window_half_share: Share of steps whose window is half as long.
        window_min: Shortest window.
        window_extra: Longest window, beyond ``window``.
        slowness: Weight of the mean square by which states differ from the ones before (temporal activation
            regularisation).
        patience: Weights are averaged from the first epoch on whose validation loss exceeds the best of all but so
            many before it.
        valid_streams: Streams that the validation text is cut into.
        rollbacks: How often training may go back to the last epoch's end after a loss that is not finite.
    """

    epochs: int = 100
    batch_size: int = 32
    lr: float = 20.0
    momentum: float = 0.0
    weight_decay: float = 8e-7
    clip: float = 0.25
    auxiliary_weight: float = 0.0
    crop_padding: int = 0
    flips: bool = False
    channels_last: bool = False
    window: int = 35
    window_std: float = 5.0
    window_half_share: float = 0.05
    window_min: int = 5
    window_extra: int = 20
    slowness: float = 1e-3
    patience: int = 5
    valid_streams: int = 10
    rollbacks: int = 5

    def __post_init__(self) -> None:
        """Refuse values out of range, and values that text has no use for.

        Raises:
            OptionError: The first value that is wrong, with the range.
        """
        super().__post_init__()
        for name in ("window", "window_min", "patience", "valid_streams"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("window_std", "window_extra", "slowness", "rollbacks"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise OptionError(
                    f"{name} is {getattr(self, name)}; it must be finite and not negative"
                )
        if not 0 <= self.window_half_share <= 1:
            raise OptionError(
                f"window_half_share is {self.window_half_share}; it must lie in [0, 1]"
            )
        for field in dataclasses.fields(Recipe):
            value = getattr(self, field.name)
            if (
                field.name not in _USED
                and value != TextRecipe.__dataclass_fields__[field.name].default
            ):
                raise OptionError(f"{field.name} is {value!r}; training on text does not use it")
        if not self.has_one_arch_per_step:
            raise OptionError(
                f"sampler {self.sampler} trains several archs a step, and text one; use uniform, round-robin "
                "or gradual"
            )


_USED = frozenset(
    {
        "epochs",
        "batch_size",
        "lr",
        "weight_decay",
        "clip",
        "sampler",
        "measure",
        "order",
        "order_seed",
        "walk_length",
        "checkpoint_epochs",
        "supernet",
    }
)

# P1 (arXiv 2010.08219) on the Penn Treebank, values of its released code; its dropouts are the defaults of
# the supernet.
RECIPES.register("p1-darts-ptb")(
    TextRecipe(
        epochs=1000,
        batch_size=256,
        lr=40.0,
        clip=0.1,
        checkpoint_epochs=100,
        supernet={"hidden_size": 850},
    )
)

# A quarter of a million tokens on two cores.
RECIPES.register("wt2-two-cores")(
    TextRecipe(
        epochs=30,
        batch_size=20,
        lr=20.0,
        checkpoint_epochs=10,
        supernet={
            "hidden_size": 128,
            "dropout_embedding": 0.1,
            "dropout_input": 0.2,
            "dropout_cell_input": 0.2,
            "dropout_hidden": 0.1,
            "dropout_output": 0.3,
        },
    )
)
