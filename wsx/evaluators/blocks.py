"""What models may use of a device: whether ONNX Runtime's operators for channels in blocks work here."""

from functools import cache

import numpy as np
from onnx import TensorProto, helper

from wsx.evaluators.devices import CPU, Device, SessionFactory, import_onnxruntime
from wsx.exporters.emission import BLOCKED, Emission, Target
from wsx.exporters.emit import INPUT, LOGITS, emit_subnet
from wsx.exporters.graph import BATCH, Graph, GraphBuilder, node_kind
from wsx.exporters.weights import WeightFile

N_CHANNELS = 64
"""Of the probes: a multiple of any block."""

TOLERANCE = 1e-4
"""Largest difference of two normalised values that rounding may leave."""

MIN_VALUES = 2**21
"""Values of a layer, in all images, from which blocks pay: its norm is then some fifteen small nodes, which take
2 ms to create."""


def target_of(device: Device, n_images: int) -> Target:
    """Return what models for a device may use.

    Nothing but sizes of layers decides what lies in blocks, so that subnets of one model are written as alone.

    Args:
        device: Where they run.
        n_images: That a model reads in its life, all batches.
    """
    if device.kind != CPU.kind or not n_images:
        return Target(device.has_fused_norm)
    return Target(device.has_fused_norm, cpu_block_size(), -(-MIN_VALUES // n_images))


@cache
def cpu_block_size() -> int:
    """Return how many channels a block has in ONNX Runtime's own layout on this processor.

    It is 0 where blocked operators cannot be used: they are not part of ONNX, so that a release may drop or change
    them. Both what they read and what they compute is therefore tried on a convolution and its norm.
    """
    ort = import_onnxruntime()
    ort.set_default_logger_severity(4)
    try:
        block_size = _measured_block_size()
        plain, blocked = (_probe(Target(block_size=size)) for size in (0, block_size))
    except Exception:
        # Whatever it is, plain models do.
        return 0
    finally:
        ort.set_default_logger_severity(2)
    return block_size if np.abs(plain - blocked).max() < TOLERANCE else 0


def _measured_block_size() -> int:
    """Return how far apart two neighbouring pixels of a channel are in blocked layout."""
    shape = (1, N_CHANNELS, 1, 2)
    emission = Emission(WeightFile({}), Target(block_size=N_CHANNELS))
    emission.named("ReorderInput", ["x"], ["y"], domain=BLOCKED)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    session = SessionFactory(WeightFile({}), CPU).session(emission.model([x], [y], {}))
    pixels = np.arange(N_CHANNELS * 2, dtype=np.float32).reshape(shape)
    (row,) = session.run(None, {"x": pixels})
    return int(np.flatnonzero(row.ravel() == 1.0)[0])


def _probe(target: Target) -> np.ndarray:
    """Return what a convolution and its norm make of noise."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((N_CHANNELS, N_CHANNELS, 3, 3)).astype(np.float32)
    weights = WeightFile({"kernel": kernel})
    images = rng.standard_normal((2, N_CHANNELS, 4, 4)).astype(np.float32)
    model = emit_subnet(_probe_graph(images.shape), weights, target=target)
    session = SessionFactory(weights, CPU).session(model.SerializeToString())
    values: np.ndarray = session.run([LOGITS], {INPUT: images})[0]
    return values


def _probe_graph(shape: tuple[int, ...]) -> Graph:
    shape = (BATCH, *shape[1:])
    window = {"padding": (1, 1), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
    builder = GraphBuilder()
    images = builder.add(node_kind("input", shape=shape))
    conv = node_kind("conv", shape=shape, weights=["kernel", None], attributes=window)
    norm = node_kind(
        "batch_norm_batch", shape=shape, weights=[None, None], attributes={"epsilon": 1e-5}
    )
    return builder.graph(builder.add(norm, [builder.add(conv, [images])]))
