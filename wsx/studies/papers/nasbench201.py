"""What studies of P1 and P2 have in common on NAS-Bench-201, at three scales."""

from dataclasses import replace
from typing import Any

from wsx.training import RECIPES
from wsx.training.run import DataSpec

P1, P2 = "arXiv 2010.08219", "arXiv 2110.01154"


def nasbench201_settings(scale: str, recipe: str) -> dict[str, Any]:
    """Return space, data, recipe, seeds, images and truth of a scale.

    ``tiny`` is digits for seconds with the truth that comes with wsx, ``small`` CIFAR-10 at 16 pixels for minutes,
    ``paper`` as published but for BatchNorm, whose statistics are calibrated here.

    Args:
        scale: One of the three.
        recipe: Name of the published recipe, such as ``p1-nasbench201``.
    """
    published = RECIPES[recipe]
    if scale == "tiny":
        small = replace(
            RECIPES["digits"],
            epochs=2,
            batch_size=32,
            checkpoint_epochs=2,
            supernet={"channels": 4, "cells": 1},
        )
        return {
            "space": "nasbench201",
            "data": DataSpec("digits", n_train=128, n_valid=100, n_test=128),
            "recipe": small,
            "seeds": (0, 1),
            "bn": "calibrated:1x64",
            "truth": "digits-nasbench201",
            "n_archs": 24,
            "top_k": 3,
        }
    if scale == "small":
        # Shorter trainings rank archs by chance: docs/studies.md, "Why these numbers".
        small = RECIPES["cifar10-two-cores"]
        return {
            "space": "nasbench201",
            "data": DataSpec("uoft-cs/cifar10", n_train=45_000, image_size=16),
            "recipe": replace(small, checkpoint_epochs=small.epochs),
            "seeds": (0, 1, 2),
            "bn": "calibrated:2x256",
            "n_images": 2_000,
        }
    return {
        "space": "nasbench201",
        "data": DataSpec("uoft-cs/cifar10"),
        "recipe": published,
        "seeds": (0, 1, 2),
    }
