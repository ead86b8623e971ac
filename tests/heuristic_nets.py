"""Supernets small enough to try every option on, with weights that hide nothing."""

import torch

from wsx.supernets import build_supernet

SMALL = {
    "nasbench201": {"channels": 3, "cells": 1, "n_classes": 3, "image_size": 9},
    "nasbench101-v4": {"channels": 5, "stacks": 1, "cells_per_stack": 1, "image_size": 6},
    "nasbench101": {"channels": 8, "stacks": 1, "cells_per_stack": 1, "image_size": 6},
    "darts": {"channels": 2, "cells": 3, "n_classes": 3, "image_size": 8},
    "darts-nds": {"channels": 2, "cells": 3, "n_classes": 3, "image_size": 8},
    "cell64": {"channels": 2, "cells": 2, "n_classes": 3, "image_size": 7},
    "nasbenchmacro": {"channels": 2, "n_classes": 3, "image_size": 16},
    "proxylessnas": {"width_percent": 10, "n_classes": 3, "image_size": 64},
}


@torch.no_grad()
def make(space, *, seed=0, **options):
    """A supernet in evaluation mode whose transforms, norms and averages are not what they start as."""
    supernet = build_supernet(space, SMALL[space] | options, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*supernet.named_parameters(), *supernet.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor.dim() == 1 or name.endswith("transform"):
            tensor.add_(0.3 * noise)
    return supernet.eval()


def images(supernet, n=3, *, dtype=torch.float64):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(n, *supernet.options.input_shape, dtype=dtype, generator=generator)


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()
