"""DARTS' network written out: reads the genotype's text and a state dict, shares no code with wsx."""

from collections import namedtuple

import torch
from torch.nn import functional as F

Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")


class Weights:
    """A state dict that remembers which parameters were read."""

    def __init__(self, state):
        self._state = state
        self.used = set()

    def __getitem__(self, name):
        self.used.add(name)
        return self._state[name]

    def get(self, name):
        return self[name] if name in self._state else None

    def n_params(self):
        return sum(self._state[name].numel() for name in self.used if "running" not in name)


def norm(x, weights, name):
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    scale, shift = weights.get(f"{name}.weight"), weights.get(f"{name}.bias")
    y = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    return y if scale is None else y * scale[:, None, None] + shift[:, None, None]


def pointwise(x, kernel):
    return torch.einsum("nchw,dc->ndhw", x, kernel[:, :, 0, 0])


def relu_conv_norm(x, weights, name):
    return norm(pointwise(x.clamp(min=0), weights[f"{name}.1.weight"]), weights, f"{name}.2")


def factorized_reduce(x, weights, name):
    x = x.clamp(min=0)
    even, odd = x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])
    rest = x[:, :, 1::2, 1::2]
    odd[:, :, : rest.shape[2], : rest.shape[3]] = rest
    parts = [
        pointwise(even, weights[f"{name}.conv.weight"]),
        pointwise(odd, weights[f"{name}.conv_shifted.weight"]),
    ]
    return norm(torch.cat(parts, 1), weights, f"{name}.norm")


def separable(x, weights, name, stride, dilation):
    kernel = weights[f"{name}.depthwise.weight"]
    size = kernel.shape[-1]
    padding = dilation * (size - 1) // 2
    y = F.conv2d(x.clamp(min=0), kernel, None, stride, padding, dilation, x.shape[1])
    return norm(pointwise(y, weights[f"{name}.pointwise.weight"]), weights, f"{name}.norm")


def operation(x, weights, name, kind, stride):
    if kind == "none":
        return torch.zeros_like(x[:, :, ::stride, ::stride])
    if kind == "max_pool_3x3":
        return F.max_pool2d(x, 3, stride, 1)
    if kind == "avg_pool_3x3":
        ones = F.pad(torch.ones_like(x), (1, 1, 1, 1))
        window = {"kernel_size": 3, "stride": stride, "divisor_override": 1}
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), **window) / F.avg_pool2d(ones, **window)
    if kind == "skip_connect":
        return x if stride == 1 else factorized_reduce(x, weights, f"{name}.candidates.{kind}")
    name = f"{name}.candidates.{kind}"
    if kind.startswith("dil"):
        return separable(x, weights, name, stride, 2)
    return separable(
        separable(x, weights, f"{name}.first", stride, 1), weights, f"{name}.second", 1, 1
    )


def cell(before, last, weights, name, pairs, shares, *, is_reduction, follows_reduction):
    preprocess = factorized_reduce if follows_reduction else relu_conv_norm
    values = [
        preprocess(before, weights, f"{name}.before"),
        relu_conv_norm(last, weights, f"{name}.last"),
    ]
    for place in range(0, 8, 2):
        total = 0
        for slot in (0, 1):
            kind, source = pairs[place + slot]
            target = 2 + place // 2
            owner = {
                "slot": f"node{target}_slot{slot}",
                "edge": f"edge{source}_{target}",
                "node": f"node{target}",
            }[shares]
            if shares == "edge" and slot and pairs[place] == pairs[place + 1]:
                owner += "_twin"
            stride = 2 if is_reduction and source < 2 else 1
            total = total + operation(
                values[source], weights, f"{name}.operations.{owner}", kind, stride
            )
        values.append(total)
    return torch.cat(values[2:], 1)


def network(x, text, weights, *, cells, shares):
    """Logits (image, class) in evaluation mode, and the output of each cell."""
    genotype = eval(text, {"Genotype": Genotype, "range": range})
    stem = F.conv2d(x, weights["stem.0.weight"], padding=1)
    outputs = [norm(stem, weights, "stem.1")] * 2
    for position in range(cells):
        is_reduction = position in (cells // 3, 2 * cells // 3)
        output = cell(
            *outputs[-2:],
            weights,
            f"cells.{position}",
            genotype.reduce if is_reduction else genotype.normal,
            shares,
            is_reduction=is_reduction,
            follows_reduction=position - 1 in (cells // 3, 2 * cells // 3),
        )
        outputs.append(output)
    logits = outputs[-1].mean((2, 3)) @ weights["classifier.weight"].T + weights["classifier.bias"]
    return logits, outputs[2:]
