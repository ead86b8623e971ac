import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from export_folders import (
    FACTS,
    Sliced,
    archs,
    assert_equal_outputs,
    content,
    running,
    sliced_recorder,
)

from wsx.errors import ArchError, CheckpointError, ExportError, WsxError
from wsx.exporters.batchnorm import BatchNormMode
from wsx.exporters.export import export_subnets
from wsx.exporters.folder import FORMAT_VERSION, create_folder, is_folder, open_folder
from wsx.exporters.subnets import SubnetRecorder
from wsx.exporters.weights import WEIGHT_FILE

MANIFEST = {"space": "nasbench201", "supernet": {}, "bn": "running", **FACTS}


def test_cut_off_derived_weights_are_noticed_before_anything_is_overwritten(tmp_path):
    model = Sliced().eval()
    wanted = [(width, 0, 0, 0, 0, 0) for width in range(4)]
    export_subnets(sliced_recorder(model), wanted[:3], tmp_path, facts=FACTS)
    raw = (tmp_path / WEIGHT_FILE).read_bytes()
    (tmp_path / WEIGHT_FILE).write_bytes(raw[:-100])
    before = content(tmp_path)
    for use in (
        lambda: export_subnets(sliced_recorder(model), wanted, tmp_path, facts=FACTS),
        lambda: open_folder(tmp_path),
    ):
        with pytest.raises(ExportError, match=r"weights\.bin is cut off: it has \d+ bytes"):
            use()
    assert content(tmp_path) == before


# What is refused -------------------------------------------------------------------------------------------


def test_a_changed_checkpoint_mode_or_space_is_refused(make_supernet, tmp_path):
    wanted = archs(2)
    export_subnets(running(make_supernet()), wanted, tmp_path, facts=FACTS)
    before = content(tmp_path)

    def again(recorder, facts, message):
        with pytest.raises(ExportError, match=message):
            export_subnets(recorder, archs(3), tmp_path, facts=facts)
        assert content(tmp_path) == before

    again(
        running(make_supernet()),
        {"checkpoint_sha256": "e" * 64},
        "checkpoint_sha256 differ. Choose another --out",
    )
    again(
        SubnetRecorder(make_supernet(), BatchNormMode("batch")),
        FACTS,
        "exported otherwise: bn differ",
    )
    again(running(make_supernet(n_classes=6)), FACTS, "exported otherwise: supernet differ")
    again(
        running(make_supernet(seed=1)), FACTS, "weights.bin holds other weights than the checkpoint"
    )


def test_folders_that_are_no_exports_are_left_alone(tiny_supernet, tmp_path):
    weights = running(tiny_supernet).weights
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    with pytest.raises(
        ExportError, match=r"is not empty and holds no wsx export; choose another --out"
    ):
        create_folder(foreign, MANIFEST, weights)
    assert content(foreign) == {"thesis.tex": b"x"}
    with pytest.raises(ExportError, match=r"cannot write .*thesis\.tex: File exists"):
        create_folder(foreign / "thesis.tex", MANIFEST, weights)
    for path in (foreign, tmp_path / "missing"):
        with pytest.raises(ExportError, match=r"holds no export \(no manifest\.json\)"):
            open_folder(path)
        assert not is_folder(path)


def test_a_newer_format_is_refused_with_both_versions(tiny_supernet, tmp_path):
    export_subnets(running(tiny_supernet), archs(1), tmp_path, facts=FACTS)
    facts = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(facts | {"format_version": 7}))
    with pytest.raises(
        ExportError, match=f"export format 7; this wsx reads up to {FORMAT_VERSION}. Upgrade wsx"
    ):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("manifest.json", b"", "manifest.json is damaged"),
        ("manifest.json", b"\xff\x00", "manifest.json is damaged"),
        ("manifest.json", b"[1]", "manifest.json is damaged"),
        ("manifest.json", b"{}", "manifest.json is damaged"),
        ("manifest.json", b'{"format_version": Infinity}', "manifest.json is damaged"),
        ("manifest.json", b'{"format_version": 1}', "lacks bn, checkpoint_sha256, space, supernet"),
        (
            "manifest.json",
            b'{"format_version": 1, "bn": "", "checkpoint_sha256": "", "space": "dart", "supernet": {}}',
            "no space named 'dart'",
        ),
        ("subnets.jsonl", b"\xff\xfe\n", "subnets.jsonl cannot be read"),
        ("subnets.jsonl", b"{\n", "subnets.jsonl line 1 is damaged"),
        ("subnets.jsonl", b"[]\n", "subnets.jsonl line 1 is damaged"),
        ("subnets.jsonl", b'{"arch": [1]}\n', "subnets.jsonl line 1 is damaged"),
        ("subnets.jsonl", b'{"arch": 3}\n', "subnets.jsonl line 1 is damaged"),
        (
            "subnets.jsonl",
            b'{"file": "x", "arch": [], "text": "", "function_key": "", "n_bytes": 1, "derived": {"w": 3}}\n',
            "subnets.jsonl is damaged",
        ),
        (
            "subnets.jsonl",
            b'{"file": "x", "arch": [], "text": "", "function_key": "", "n_bytes": 1, "derived": '
            b'{"w": [0, 4, [1], "bogus"]}}\n',
            "subnets.jsonl is damaged",
        ),
        ("weights.bin", None, r"weights\.bin cannot be read"),
    ],
)
def test_damaged_folders_say_which_file(tiny_supernet, tmp_path, file, text, message):
    export_subnets(running(tiny_supernet), archs(1), tmp_path, facts=FACTS)
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(text)
    with pytest.raises(WsxError, match=message) as caught:
        open_folder(tmp_path)
    assert isinstance(caught.value, (ExportError, CheckpointError)) or "dart" in message


def test_a_damaged_or_missing_model_is_noticed(tiny_supernet, tmp_path):
    one, other = archs(2)
    export_subnets(running(tiny_supernet), [one], tmp_path, facts=FACTS)
    folder = open_folder(tmp_path)
    with pytest.raises(ArchError, match="holds no subnet of"):
        folder.read(other)
    path = tmp_path / folder.row(one).file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        ExportError, match=r"000000\.onnx is missing or damaged; export the subnet again"
    ):
        folder.read(one)
    path.unlink()
    with pytest.raises(ExportError, match="missing or damaged"):
        folder.read(one)


def test_a_row_cannot_lead_out_of_the_folder(tiny_supernet, tmp_path):
    (arch,) = archs(1)
    out = tmp_path / "out"
    export_subnets(running(tiny_supernet), [arch], out, facts=FACTS)
    folder = open_folder(out)
    (tmp_path / "secret").write_bytes(b"x" * folder.row(arch).n_bytes)
    folder.rows[arch] = dataclasses.replace(folder.row(arch), file="../secret")
    with pytest.raises(ExportError, match="out/secret is missing"):
        folder.read(arch)


# A full disk -----------------------------------------------------------------------------------------------


def fill_disk(monkeypatch, suffix, n):
    """Make opening files with a suffix to write fail from the n-th on."""
    real, counter = Path.open, itertools.count(1)

    def opens(path, mode="r", *args, **kwargs):
        if path.name.endswith(suffix) and set(mode) & set("wa+") and next(counter) >= n:
            raise OSError(28, "No space left on device")
        return real(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", opens)


@pytest.mark.parametrize(
    ("suffix", "n", "n_kept"),
    [
        (".onnx.part", 3, 2),
        ("subnets.jsonl", 3, 2),
        ("weights.bin", 3, 2),
        ("weights.bin.part", 1, 0),
        ("manifest.json.part", 1, 0),
    ],
)
def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(tmp_path, suffix, n, n_kept):
    model = Sliced().eval()
    wanted = [(width, 0, 0, 0, 0, 0) for width in range(4)]
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, suffix, n)
        with pytest.raises(ExportError, match=r"No space left on device.*free space and repeat"):
            export_subnets(sliced_recorder(model), wanted, out, facts=FACTS)
    assert not list(out.glob("*.part"))
    if n_kept:
        assert list(open_folder(out).rows) == wanted[:n_kept]
    report = export_subnets(sliced_recorder(model), wanted, out, facts=FACTS)
    assert (report.n_skipped, report.n_written) == (n_kept, 4 - n_kept)
    assert_equal_outputs(model, open_folder(out), wanted)
