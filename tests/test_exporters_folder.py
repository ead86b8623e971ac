import itertools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from export_folders import (
    FACTS,
    SPACE,
    Sliced,
    archs,
    assert_equal_outputs,
    content,
    run_file,
    running,
    sliced_recorder,
)
from torch import nn

from wsx.errors import ExportError, OptionError
from wsx.exporters import folder as folder_module
from wsx.exporters.batchnorm import BatchNormMode, split_statistics
from wsx.exporters.emit import emit_calibration, emit_subnet
from wsx.exporters.export import export_subnets
from wsx.exporters.folder import open_folder
from wsx.exporters.subnets import SubnetRecorder
from wsx.exporters.weights import WEIGHT_FILE


def images(n=3, size=9):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, 3, size, size, generator=generator)


# What is in a folder ---------------------------------------------------------------------------------------


def test_every_file_stands_alone_beside_the_weights(tiny_supernet, tmp_path):
    wanted = archs(6)
    out = tmp_path / "a" / "export"
    report = export_subnets(running(tiny_supernet), [*wanted, wanted[0]], out, facts=FACTS)
    assert (report.n_written, report.n_skipped, report.failures) == (6, 0, {})
    folder = open_folder(out)
    assert list(folder.rows) == wanted
    assert sorted(content(out)) == [
        *[f"{i:06d}.onnx" for i in range(6)],
        "manifest.json",
        "subnets.jsonl",
        "weights.bin",
    ]
    assert folder.n_bytes == sum(
        len(c) for n, c in content(out).items() if not n.startswith(("man", "sub"))
    )
    x = images()
    for arch in wanted:
        row = folder.row(arch)
        with torch.no_grad():
            expected = tiny_supernet(x, arch)
        # Moved elsewhere with nothing but the weights.
        alone = tmp_path / row.file.removesuffix(".onnx")
        alone.mkdir()
        shutil.copy(out / row.file, alone)
        shutil.copy(out / WEIGHT_FILE, alone)
        np.testing.assert_allclose(
            run_file(alone / row.file, x.numpy()), expected, rtol=1e-4, atol=1e-4
        )
        assert len(folder.read(arch)) == row.n_bytes


def test_models_say_where_they_come_from(tiny_supernet, tmp_path):
    recorder = running(tiny_supernet)
    arch = SPACE.arch_at(6111)
    export_subnets(recorder, [arch], tmp_path, facts={**FACTS, "dataset": "digits"})
    model = onnx.load(tmp_path / "000000.onnx", load_external_data=False)
    folder = open_folder(tmp_path)
    assert {p.key: p.value for p in model.metadata_props} == {
        "wsx.arch": SPACE.format(arch),
        "wsx.space": "nasbench201",
        "wsx.function_key": recorder.record(arch).function_key,
        "wsx.checkpoint_sha256": "f" * 64,
        "wsx.bn": "running",
        "wsx.version": folder.facts["wsx_version"],
    }
    assert (model.ir_version, model.opset_import[0].version, model.producer_name) == (9, 17, "wsx")
    assert {i.name for i in model.graph.input} == {"images"}
    assert {o.name for o in model.graph.output} == {"logits"}
    locations = {
        e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"
    }
    assert locations == {WEIGHT_FILE}
    assert folder.facts["supernet"]["channels"] == 4
    assert folder.facts["dataset"] == "digits"
    assert folder.row(arch).text == SPACE.format(arch)


def test_calibrated_subnets_carry_their_statistics(tiny_supernet, run_onnx, tmp_path):
    mode = BatchNormMode("calibrated", 1, 8)
    recorder = SubnetRecorder(tiny_supernet, mode)

    def calibrate(graph):
        model = emit_calibration(graph, recorder.weights)
        return split_statistics(graph, *run_onnx(model, recorder.weights, images(8).numpy()))

    arch = SPACE.arch_at(6111)
    refused = export_subnets(recorder, [arch], tmp_path / "x", facts=FACTS)
    assert refused.failures == {
        SPACE.format(arch): "BatchNorm mode calibrated:1x8 needs images to calibrate on"
    }
    out = tmp_path / "calibrated"
    export_subnets(recorder, [arch], out, facts=FACTS, calibrate=calibrate)
    for layer in tiny_supernet.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
    with torch.no_grad():
        expected = tiny_supernet.train()(images(8), arch)
    found = run_file(out / "000000.onnx", images(8).numpy())
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_failing_subnet_is_reported_and_the_others_written(tiny_supernet, tmp_path):
    recorder = running(tiny_supernet)
    right = recorder.record
    bad, *good = archs(4)

    def record(arch):
        if arch == bad:
            raise ExportError("cannot record this one")
        return right(arch)

    recorder.record = record
    seen = []
    report = export_subnets(
        recorder,
        [good[0], bad, *good[1:]],
        tmp_path,
        facts=FACTS,
        on_subnet=lambda *now: seen.append(now[1:]),
    )
    assert report.failures == {SPACE.format(bad): "cannot record this one"}
    assert report.n_written == 3
    assert list(open_folder(tmp_path).rows) == good
    assert seen == [(1, 4), (3, 4), (4, 4)]
    recorder.record = right
    again = export_subnets(recorder, [bad, *good], tmp_path, facts=FACTS)
    assert (again.n_written, again.n_skipped, again.failures) == (1, 3, {})


def test_an_unknown_exporter_is_refused(tiny_supernet, tmp_path):
    with pytest.raises(OptionError, match="exporter 'tf' is none of: wsx, torch"):
        export_subnets(running(tiny_supernet), archs(1), tmp_path / "x", facts=FACTS, exporter="tf")
    assert not (tmp_path / "x").exists()


# Resuming --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "instant", ["model", "weights", "line", "cut line", "first weights", "manifest"]
)
def test_a_killed_export_continues_to_the_same_folder(
    tiny_supernet, tmp_path, monkeypatch, instant
):
    wanted = archs(5)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    export_subnets(running(tiny_supernet), wanted, whole, facts=FACTS)

    def kill(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        if instant == "first weights":
            patch.setattr("wsx.exporters.weights.WeightFile.write", kill)
        elif instant == "manifest":
            patch.setattr("wsx.exporters.folder.write_durably", kill)
        else:
            target = {
                "model": "write_durably",
                "weights": "asdict",
                "line": "json",
                "cut line": "json",
            }[instant]
            real, calls = getattr(folder_module, target), itertools.count()
            # The third subnet's; a folder's manifest is the first thing written durably, and a subnet's cost
            # is put into words before its row is.
            at = {"model": 3, "weights": 5}.get(instant, 2)

            def late(*args):
                if next(calls) == at:
                    raise Killed
                return real(*args)

            if target == "json":
                n_before = itertools.count()

                def dumps(values, **kwargs):
                    if "file" in values and next(n_before) == at:
                        raise Killed
                    return json.dumps(values, **kwargs)

                patch.setattr(folder_module, target, SimpleNamespace(dumps=dumps, loads=json.loads))
            else:
                patch.setattr(folder_module, target, late)
        with pytest.raises(Killed):
            export_subnets(running(tiny_supernet), wanted, out, facts=FACTS)
    if instant == "cut line":
        with (out / "subnets.jsonl").open("a") as lines:
            lines.write('{"file": "000002.onnx", "arch": [1, 2')
    report = export_subnets(running(tiny_supernet), wanted, out, facts=FACTS)
    n_kept = 0 if instant in ("first weights", "manifest") else 2
    assert (report.n_skipped, report.n_written) == (n_kept, 5 - n_kept)
    assert content(out) == content(whole)


def test_a_cut_off_last_line_is_exported_again(tiny_supernet, tmp_path):
    wanted = archs(3)
    export_subnets(running(tiny_supernet), wanted, tmp_path, facts=FACTS)
    before = content(tmp_path)
    (tmp_path / "subnets.jsonl").write_bytes(before["subnets.jsonl"][:-1])
    assert list(open_folder(tmp_path).rows) == wanted[:2]
    report = export_subnets(running(tiny_supernet), wanted, tmp_path, facts=FACTS)
    assert (report.n_written, report.n_skipped) == (1, 2)
    assert content(tmp_path) == before


def test_a_repeated_export_writes_nothing_and_a_longer_one_only_the_rest(tiny_supernet, tmp_path):
    wanted = archs(5)
    export_subnets(running(tiny_supernet), wanted[:3], tmp_path, facts=FACTS)
    before = content(tmp_path)
    report = export_subnets(running(tiny_supernet), wanted[:3], tmp_path, facts=FACTS)
    assert (report.n_written, report.n_skipped) == (0, 3)
    assert content(tmp_path) == before
    report = export_subnets(running(tiny_supernet), wanted, tmp_path, facts=FACTS)
    assert (report.n_written, report.n_skipped) == (2, 3)
    assert list(open_folder(tmp_path).rows) == wanted


def test_derived_weights_keep_their_places_when_resumed_in_another_order(tmp_path):
    model = Sliced().eval()
    wanted = [(width, wide, 0, 0, 0, 0) for width in range(5) for wide in (0, 1)]
    with torch.no_grad():
        model.last.weight.copy_(torch.linspace(-1, 1, 24).reshape(2, 12))
    export_subnets(sliced_recorder(model), wanted[:4], tmp_path, facts=FACTS)
    first = content(tmp_path)
    # Derived weights that no line names: the export was killed between the two.
    with (tmp_path / WEIGHT_FILE).open("ab") as file:
        file.write(b"\x01" * 100)
    export_subnets(sliced_recorder(model), wanted[::-1], tmp_path, facts=FACTS)
    after = content(tmp_path)
    assert after[WEIGHT_FILE].startswith(first[WEIGHT_FILE])
    assert {n: c for n, c in after.items() if n in first and n.endswith("onnx")} == {
        n: c for n, c in first.items() if n.endswith("onnx")
    }
    folder = open_folder(tmp_path)
    assert_equal_outputs(model, folder, wanted)
    derived = [name for row in folder.rows.values() for name in row.derived]
    assert len(derived) == len(set(derived)) == 20


def test_emitting_needs_no_folder(tiny_supernet, run_onnx):
    # The same protos serve scoring in memory and folders on disk.
    recorder = running(tiny_supernet)
    (arch,) = archs(1)
    graph = recorder.record(arch)
    first, second = (
        emit_subnet(graph, recorder.weights).SerializeToString(deterministic=True) for _ in range(2)
    )
    assert first == second
