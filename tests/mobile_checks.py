"""What both supernets of inverted residual blocks are checked for."""

import numpy as np
import torch
from torch import nn

from wsx.data import load_data
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.emit import emit_subnet
from wsx.exporters.extract import to_module
from wsx.exporters.subnets import SubnetRecorder
from wsx.training.augment import Batches
from wsx.training.loop import Trainer
from wsx.training.recipes import Recipe


def covering_archs(space):
    """As many archs as the largest decision has options; between them every option of every decision."""
    return [
        tuple((place + shift) % n for place, n in enumerate(space.n_options))
        for shift in range(max(space.n_options))
    ]


def images(supernet, n=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(9)
    return torch.randn((n, *supernet.options.input_shape), dtype=dtype, generator=generator)


def extracted(supernet, archs):
    """Each subnet as a module of its own; as ``extract`` does it, with the weights copied once."""
    recorder = SubnetRecorder(supernet, BatchNormMode("running"))
    return [to_module(recorder.record(arch), recorder.weights) for arch in archs]


def extraction_error(supernet, arch, subnet):
    """Largest difference of a subnet to the supernet in float64, relative to the largest logit."""
    x = images(supernet, dtype=torch.float64)
    with torch.no_grad():
        expected, found = supernet(x, arch), subnet(x)
    return ((found - expected).abs().max() / expected.abs().max()).item()


def onnx_error(supernet, arch, run_onnx, mode):
    """Largest difference of ONNX Runtime to the supernet, relative to the largest logit."""
    recorder = SubnetRecorder(supernet, BatchNormMode.parse(mode))
    x = images(supernet, n=6)
    model = emit_subnet(recorder.record(arch), recorder.weights)
    (found,) = run_onnx(model, recorder.weights, x.numpy())
    supernet.train(mode == "batch")
    with torch.no_grad():
        expected = supernet(x, arch).numpy()
    supernet.eval()
    return np.abs(found - expected).max() / np.abs(expected).max()


def hooked_cost(model, *arguments):
    """Params of the layers that a forward pass visits, and multiply-adds of each convolution and matrix."""
    visited, multiply_adds = {}, []

    def count(layer, inputs, output):
        visited[id(layer)] = layer
        if isinstance(layer, nn.Conv2d):
            per_output = (
                layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
            )
            multiply_adds.append(output[0].numel() * per_output)
        elif isinstance(layer, nn.Linear):
            multiply_adds.append(layer.in_features * layer.out_features)

    hooks = [
        layer.register_forward_hook(count)
        for layer in model.modules()
        if not list(layer.children())
    ]
    with torch.no_grad():
        model(*arguments)
    for hook in hooks:
        hook.remove()
    params = [p.numel() for layer in visited.values() for p in layer.parameters()]
    return sum(params), multiply_adds


def states_of_training(supernet, archs, *, decays_all=False):
    """The trainer's state before the first step and after each, one arch a step, momentum and decay on."""
    recipe = Recipe(epochs=1, batch_size=8, lr=0.1, crop_padding=1, clip=0.0, weight_decay=1e-2)
    train = load_data("digits", n_train=8 * len(archs), n_valid=20, n_test=20).train
    batches = Batches(train, recipe, seed=5, device=torch.device("cpu"))
    trainer = Trainer(
        supernet, lambda step: [lambda x: supernet(x, archs[step])], batches, recipe, seed=5
    )
    if decays_all:
        zero_grad = trainer._optimizer.zero_grad
        for parameter in supernet.parameters():
            parameter.grad = torch.zeros_like(parameter)
        trainer._optimizer.zero_grad = lambda *, set_to_none: zero_grad(set_to_none=False)
    return [snapshot(trainer), *(snapshot(trainer) for _ in trainer.run())]


def snapshot(trainer):
    return {name: t.clone() for name, t in trainer.state().items() if name != "sums"}


def changed_names(before, after):
    return {
        name
        for name, tensor in after.items()
        if name not in before or not torch.equal(before[name], tensor)
    }
