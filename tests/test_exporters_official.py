import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from wsx.errors import ExportError, MissingExtraError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.export import export_subnets
from wsx.exporters.folder import open_folder
from wsx.exporters.official import export_official
from wsx.exporters.subnets import SubnetRecorder
from wsx.spaces import SPACES

SPACE = SPACES["nasbench201"]
FACTS = {"checkpoint_sha256": "f" * 64}


def run(path, x):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": x})[0]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="onnxscript is not installed"
)
def test_the_official_exporter_writes_the_same_function(tiny_supernet, tmp_path):
    archs = [SPACE.arch_at(6111), (4, 2, 1, 0, 4, 3)]
    paths = {}
    for exporter in ("wsx", "torch"):
        recorder = SubnetRecorder(tiny_supernet, BatchNormMode("running"))
        export_subnets(recorder, archs, tmp_path / exporter, facts=FACTS, exporter=exporter)
        paths[exporter] = open_folder(tmp_path / exporter)
    # Batches of any size, the last one odd.
    for n in (5, 2):
        x = np.random.default_rng(n).standard_normal((n, 3, 9, 9)).astype(np.float32)
        for arch in archs:
            with torch.no_grad():
                expected = tiny_supernet(torch.from_numpy(x), arch)
            files = {name: folder.path / folder.row(arch).file for name, folder in paths.items()}
            for file in files.values():
                np.testing.assert_allclose(run(file, x), expected, rtol=1e-4, atol=1e-4)
            properties = [
                {p.key: p.value for p in onnx.load(file, load_external_data=False).metadata_props}
                for file in files.values()
            ]
            assert properties[0] == {k: v for k, v in properties[1].items() if k.startswith("wsx.")}


def test_what_the_official_exporter_lacks_is_said(monkeypatch):
    def export(*args, **kwargs):
        raise ImportError("No module named 'onnxscript'")

    monkeypatch.setattr("torch.onnx.export", export)
    with pytest.raises(MissingExtraError, match=r"pip install onnxscript .No module named"):
        export_official(nn.ReLU().eval(), (3, 4, 4), metadata={})


@pytest.mark.slow
def test_what_the_official_exporter_refuses_is_one_line():
    class Branches(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ExportError, match=r"^torch\.onnx\.export failed: "):
        export_official(Branches().eval(), (3, 4, 4), metadata={})
