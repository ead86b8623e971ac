"""The recipes that come with wsx, by name: published ones with their source, and our own small ones."""

import dataclasses

from wsx.training.recipes import RECIPES, Recipe

__all__ = ["RECIPES"]

RECIPES.register("default")(Recipe())

# A supernet on the embedded digits in under a minute on two cores.
RECIPES.register("digits")(
    Recipe(
        epochs=60,
        batch_size=64,
        lr=0.1,
        measure="reachable",
        crop_padding=1,
        flips=False,
        checkpoint_epochs=20,
        supernet={"channels": 8, "cells": 1},
    )
)

# The same digits, one subnet alone. So short because longer trainings all end near 98 % and differ by
# the noise of their seeds: two seeds agree with tau .44 after 5 epochs and .25 after 12 (24 archs each).
RECIPES.register("digits-standalone")(
    Recipe(
        epochs=5,
        batch_size=32,
        lr=0.1,
        measure="reachable",
        crop_padding=1,
        flips=False,
        supernet={"channels": 8, "cells": 1},
    )
)

# CIFAR-10 at 16 pixels a side in less than ten minutes on two cores. Longer trainings reach higher accuracies and
# rank archs no better, see docs/studies.md for figures.
RECIPES.register("cifar10-two-cores")(
    Recipe(
        epochs=25,
        batch_size=128,
        lr=0.1,
        measure="reachable",
        crop_padding=2,
        supernet={"channels": 8, "cells": 1},
    )
)

# P1 (arXiv 2010.08219) on NAS-Bench-201, values of its released code.
RECIPES.register("p1-nasbench201")(
    Recipe(
        epochs=1000,
        batch_size=256,
        lr=0.1,
        weight_decay=5e-4,
        clip=5.0,
        measure="reachable",
        checkpoint_epochs=100,
        supernet={"channels": 16, "cells": 5},
    )
)

# P1's multi-path training on NAS-Bench-201: five archs a step, and fewer epochs; values of its released code,
# which does not clip there. Its fair variant is this with sampler=fair, which needs no n_paths.
RECIPES.register("p1-nasbench201-multipath")(
    dataclasses.replace(RECIPES["p1-nasbench201"], epochs=400, clip=0.0, n_paths=5, gradients="sum")
)

# P1 on NAS-Bench-101, its sub-space nasbench101-1shot1c; values of its released code.
_P1_NASBENCH101 = Recipe(
    epochs=1000,
    batch_size=256,
    lr=0.1,
    nesterov=False,
    weight_decay=1e-4,
    clip=5.0,
    checkpoint_epochs=100,
    supernet={"channels": 128, "stacks": 3, "cells_per_stack": 3, "bn_momentum": 0.003},
)
RECIPES.register("p1-nasbench101")(_P1_NASBENCH101)

# Its multi-path training there. Its fair variant is this with sampler=fair and fair_decisions=op: each path has a
# topology of its own, and operations are fair.
RECIPES.register("p1-nasbench101-multipath")(
    dataclasses.replace(_P1_NASBENCH101, epochs=333, n_paths=3, gradients="sum")
)

# P1 on DARTS with CIFAR-10, values of its released code: four processes, each with 112 images and an arch of its
# own, and four times the learning rate of one. Drop path grows from step to step here, from epoch to epoch there.
RECIPES.register("p1-darts")(
    Recipe(
        epochs=1000,
        batch_size=448,
        lr=0.1,
        nesterov=False,
        weight_decay=3e-4,
        clip=5.0,
        drop_path=0.2,
        cutout=16,
        n_ranks=4,
        parallel_sampling=True,
        checkpoint_epochs=50,
        supernet={"channels": 36, "cells": 20, "has_auxiliary": True},
    )
)

# P3 (arXiv 2001.01431) on its cell of 64 archs, values of paper and code: one arch after another in fixed order.
# All 50,000 training images train there, and the test images validate. The last batch of its epochs is a smaller
# one, left out here, and its learning rate changes from epoch to epoch, from step to step here.
RECIPES.register("p3-cell64")(
    Recipe(
        epochs=200,
        batch_size=256,
        lr=0.025,
        lr_min=0.001,
        nesterov=False,
        weight_decay=1e-3,
        clip=0.0,
        sampler="round-robin",
        order="fixed",
        checkpoint_epochs=1,
        checkpoint_last_steps=128,
        supernet={"channels": 16, "cells": 4, "bn_momentum": 0.4},
    )
)

# P2 (arXiv 2110.01154) on NAS-Bench-201, values of its authors' follow-up code. Half of the training images
# validate there: give --n-train 25000 --n-valid 25000 with CIFAR-10.
RECIPES.register("p2-nasbench201")(
    Recipe(
        epochs=400,
        batch_size=256,
        lr=0.025,
        lr_min=0.001,
        weight_decay=5e-4,
        clip=5.0,
        measure="encodings",
        checkpoint_epochs=50,
        supernet={"channels": 16, "cells": 5, "tracks_statistics": False},
    )
)

# P1 on ProxylessNAS with ImageNet at 224 pixels, values of its released code for one of its eight processes;
# with all eight, batch_size=1024 and lr=0.2. Not carried over: the other classes share its smoothing of 0.1,
# contrast turns about mid-grey, and hues turn by up to a degree.
RECIPES.register("p1-proxylessnas")(
    Recipe(
        epochs=1000,
        batch_size=128,
        lr=0.025,
        warmup_epochs=5,
        nesterov=False,
        weight_decay=5e-5,
        clip=0.0,
        label_smoothing=0.1,
        crop_area=0.08,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        checkpoint_epochs=50,
        supernet={"width_percent": 135},
    )
)

# NAS-Bench-Macro with CIFAR-10: the benchmark's own values for a subnet alone (arXiv 2103.11922 and its code),
# and ours for the supernet, which differ by four times the epochs.
_MACRO = Recipe(
    batch_size=256, lr=0.1, nesterov=False, weight_decay=5e-4, clip=0.0, supernet={"channels": 32}
)
RECIPES.register("macro-standalone")(_MACRO)
RECIPES.register("macro")(dataclasses.replace(_MACRO, epochs=200, clip=5.0, checkpoint_epochs=50))

# A narrow ProxylessNAS on a folder of some hundred photographs, to see that all runs: minutes on two cores at
# 64 pixels. Ours, and too short to rank anything.
RECIPES.register("photos-smoke")(
    Recipe(
        epochs=4,
        batch_size=32,
        lr=0.05,
        label_smoothing=0.1,
        crop_area=0.25,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        checkpoint_epochs=2,
        supernet={"width_percent": 25},
    )
)
