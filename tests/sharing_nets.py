"""Small supernets that share weights in different ways."""

import torch

from wsx.contracts._base import randomised
from wsx.spaces import SPACES
from wsx.supernets import build_supernet
from wsx.supernets.checkpoint import save_tensors

CELL64 = SPACES["cell64"]
ALL = list(CELL64.enumerate())
SIZES = {"n_classes": 3, "in_channels": 2, "image_size": 6}
MACROS = {
    "nasbench201": {**SIZES, "channels": 2, "cells": 1},
    "cell64": {**SIZES, "channels": 2, "cells": 2, "is_affine": True},
    "nasbench101-v4": {**SIZES, "channels": 4, "stacks": 2, "cells_per_stack": 1},
    "darts": {**SIZES, "image_size": 8, "channels": 2, "cells": 3},
    "nasbenchmacro": {**SIZES, "image_size": 8, "channels": 2},
}
CONVS = "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|nor_conv_1x1~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def build(space, sharing, *, seed=0, **more):
    net = build_supernet(space, MACROS[space], seed=seed, sharing=sharing, **more)
    return randomised(net, torch.Generator().manual_seed(seed)).eval()


def images(net, n=3):
    return net.example_inputs(n, torch.Generator().manual_seed(1))[0]


def groups_of(net, archs):
    found = {}
    for arch in archs:
        found.setdefault(net.grouping.of(arch), []).append(arch)
    return [found[number] for number in sorted(found)]


SHARINGS = [
    ("nasbench201", {"groups": "consecutive:2", "shared": "prefix:1"}),
    ("nasbench201", {"arch": CONVS, "copies": 3}),
    ("cell64", {"groups": "random:4", "shared": "norms"}),
    ("cell64", {"arch": "234", "copies": 3}),
    ("nasbench101-v4", {"groups": "random:3", "shared": "prefix:1"}),
    ("nasbench101-v4", {"arch": "111011-31", "copies": 3}),
    ("darts", {"groups": "by:reduce/2/inputs", "shared": "not:norms"}),
    ("nasbenchmacro", {"arch": "12121212", "copies": 2}),
]


def saved(path, space, net, **facts):
    facts = {"space": space, "supernet": MACROS[space], "step": 1, **facts}
    save_tensors(path, net.state_dict(), facts)
    return path
