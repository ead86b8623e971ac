import errno
import hashlib
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsx.errors import CheckpointError
from wsx.supernets import build_supernet
from wsx.supernets import checkpoint as checkpoint_module
from wsx.supernets.checkpoint import (
    FORMAT_VERSION,
    file_sha256,
    load_supernet,
    load_tensors,
    read_facts,
    save_tensors,
)

MACRO = {"channels": 1, "cells": 1, "n_classes": 4, "in_channels": 1, "image_size": 8}
FACTS = {"space": "nasbench201", "supernet": MACRO, "seed": 0, "step": 12, "epoch": 3, "loss": 0.5}


@pytest.fixture(scope="module")
def state():
    supernet = build_supernet("nasbench201", MACRO, seed=3)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.25)
    return supernet.state_dict()


@pytest.fixture
def good(tmp_path, state):
    path = tmp_path / "epoch-0003.safetensors"
    save_tensors(path, state, FACTS)
    return path


def write_header(path, value, tensors):
    save_file(dict(tensors), path, {"wsx": value if isinstance(value, str) else json.dumps(value)})


def test_a_supernet_comes_back_from_its_file_alone(good, state):
    supernet, checkpoint = load_supernet(good)
    assert checkpoint.path == good
    assert checkpoint.facts == {"format_version": FORMAT_VERSION, **FACTS}
    assert checkpoint.sha256 == hashlib.sha256(good.read_bytes()).hexdigest() == file_sha256(good)
    assert not supernet.training
    assert {name: getattr(supernet.options, name) for name in MACRO} == MACRO
    loaded = supernet.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert list(good.parent.iterdir()) == [good]


def test_the_header_is_plain_json_at_the_files_front(good):
    content = good.read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    assert json.loads(header["__metadata__"]["wsx"]) == {"format_version": 1, **FACTS}


def test_facts_are_read_without_tensors(good, monkeypatch):
    opened = checkpoint_module.safe_open

    class NoTensors:
        def __init__(self, *args, **keywords):
            self._file = opened(*args, **keywords)

        def __enter__(self):
            return self

        def __exit__(self, *details):
            return None

        def metadata(self):
            return self._file.metadata()

    monkeypatch.setattr(checkpoint_module, "safe_open", NoTensors)
    assert read_facts(good)["step"] == 12
    with pytest.raises(AttributeError):
        load_tensors(good)


def test_layout_and_views_are_saved_by_value(tmp_path):
    base = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32).view(2, 3, 4, 5)
    tensors = {
        "laid_out": base.to(memory_format=torch.channels_last),
        "slice": base[:, 1:, ::2],
        "scalar": torch.tensor(7),
        "parameter": torch.nn.Parameter(base + 1),
        "half": base.to(torch.bfloat16),
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {})
    loaded, facts = load_tensors(tmp_path / "a.safetensors")
    assert facts == {"format_version": 1}
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype
        assert not loaded[name].requires_grad


def test_truncated_files_are_refused_wherever_they_end(good):
    content = good.read_bytes()
    (n_header,) = struct.unpack("<Q", content[:8])
    ends = {0, 1, 7, 8, 9, n_header + 7, n_header + 8, n_header + 9, len(content) - 1}
    ends |= set(np.random.default_rng(0).integers(len(content), size=40).tolist())
    for end in sorted(ends):
        good.write_bytes(content[:end])
        for read in (load_supernet, load_tensors, read_facts):
            with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
                read(good)
    good.write_bytes(content)
    load_supernet(good)


def test_flipped_header_bytes_never_escape_as_other_errors(good):
    content = good.read_bytes()
    (n_header,) = struct.unpack("<Q", content[:8])
    rng = np.random.default_rng(1)
    n_refused = 0
    for _ in range(150):
        broken = bytearray(content)
        for place in rng.integers(8 + n_header, size=rng.integers(1, 4)):
            broken[place] = rng.integers(256)
        good.write_bytes(broken)
        try:
            load_supernet(good)
        except CheckpointError:
            n_refused += 1
    assert n_refused > 100


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"PK\x03\x04 zip", pickle.dumps({"a": 1}), b"\xff" * 64, b"weights\n" * 50],
)
def test_files_of_other_kinds_are_refused(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        load_supernet(path)


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.safetensors", tmp_path / "a" / "b"):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            load_supernet(path)


def test_foreign_safetensors_are_refused(tmp_path, state):
    path = tmp_path / "a.safetensors"
    save_file(dict(state), path)
    with pytest.raises(CheckpointError, match="that wsx did not write"):
        load_supernet(path)
    save_file(dict(state), path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="that wsx did not write"):
        load_supernet(path)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "null",
        "[1]",
        '"text"',
        {},
        {"format_version": None},
        {"format_version": "one"},
        {"format_version": []},
        '{"format_version": NaN}',
        '{"format_version": 1e999}',
    ],
)
def test_headers_that_are_not_ours_are_refused(tmp_path, state, header):
    path = tmp_path / "a.safetensors"
    write_header(path, header, state)
    for read in (read_facts, load_supernet):
        with pytest.raises(CheckpointError, match="that wsx did not write"):
            read(path)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 10**30])
def test_newer_formats_are_refused_with_both_versions(tmp_path, state, version):
    path = tmp_path / "a.safetensors"
    write_header(path, {**FACTS, "format_version": version}, state)
    with pytest.raises(
        CheckpointError, match=rf"format {version}; this wsx reads up to 1\. Upgrade"
    ):
        load_supernet(path)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"space": "nasbench20"}, "Did you mean nasbench201"),
        ({"space": ["nasbench201"]}, "does not hold a supernet"),
        ({"space": None}, "does not hold a supernet"),
        (
            {"supernet": {**MACRO, "chanels": 2}},
            "no supernet option named 'chanels'. Did you mean channels",
        ),
        ({"supernet": {**MACRO, "channels": "2"}}, "channels is '2'; it must be of type int"),
        ({"supernet": {**MACRO, "channels": 0}}, "channels is 0; it must be at least 1"),
        ({"supernet": {**MACRO, "channels": True}}, "channels is True"),
        ({"supernet": {**MACRO, "channels": None}}, "channels is None"),
        ({"supernet": {**MACRO, "channels": 2}}, "does not hold a supernet"),
        ({"supernet": {**MACRO, "cells": 2}}, "does not hold a supernet"),
        ({"supernet": {**MACRO, "n_classes": 5}}, "does not hold a supernet"),
        ({"supernet": {**MACRO, "is_affine": False}}, "does not hold a supernet"),
        ({"supernet": {**MACRO, "tracks_statistics": False}}, "does not hold a supernet"),
        ({"supernet": [1]}, "does not hold a supernet"),
        ({"supernet": None}, "does not hold a supernet"),
    ],
)
def test_headers_that_do_not_fit_the_weights_are_refused(tmp_path, state, facts, message):
    path = tmp_path / "a.safetensors"
    save_tensors(path, state, {**FACTS, **facts})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_supernet(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["space", "supernet"])
def test_headers_that_lack_a_fact_are_refused(tmp_path, state, missing):
    path = tmp_path / "a.safetensors"
    save_tensors(path, state, {name: value for name, value in FACTS.items() if name != missing})
    with pytest.raises(CheckpointError, match=f"does not hold a supernet of wsx: '{missing}'"):
        load_supernet(path)


def no_space(*args, **keywords):
    raise OSError(errno.ENOSPC, "No space left on device")


def half_written(tensors, path, header):
    Path(path).write_bytes(b"half a file")
    no_space()


BREAKS = {
    "save": lambda m: m.setattr(checkpoint_module, "save_file", half_written),
    "sync": lambda m: m.setattr(os, "fsync", no_space),
    "replace": lambda m: m.setattr(Path, "replace", no_space),
}


@pytest.mark.parametrize("broken", sorted(BREAKS))
@pytest.mark.parametrize("is_there_before", [False, True])
def test_a_write_that_fails_leaves_the_old_file_or_none(
    tmp_path, state, monkeypatch, broken, is_there_before
):
    path = tmp_path / "epoch-0001.safetensors"
    if is_there_before:
        save_tensors(path, state, FACTS)
    before = path.read_bytes() if is_there_before else None
    with monkeypatch.context() as context:
        BREAKS[broken](context)
        with pytest.raises(
            CheckpointError, match=r"cannot write .*No space left.*Earlier checkpoints"
        ):
            save_tensors(path, {"other": torch.zeros(3)}, {})
    assert list(tmp_path.iterdir()) == ([path] if is_there_before else [])
    assert (path.read_bytes() if is_there_before else None) == before
    save_tensors(path, state, FACTS)
    load_supernet(path)


def test_the_first_failure_is_told_even_if_cleaning_up_fails(tmp_path, state, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(Path, "replace", no_space)
        context.setattr(Path, "unlink", no_space)
        with pytest.raises(CheckpointError, match="No space left"):
            save_tensors(tmp_path / "a.safetensors", state, FACTS)
    assert not (tmp_path / "a.safetensors").exists()


def test_a_folder_that_is_a_file_is_refused(tmp_path, state):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        save_tensors(tmp_path / "checkpoints" / "a.safetensors", state, FACTS)
    with pytest.raises(CheckpointError, match="cannot write"):
        save_tensors(tmp_path / "checkpoints" / "b" / "a.safetensors", state, FACTS)


def test_a_part_left_by_a_crash_is_overwritten(good, state):
    part = good.with_name(good.name + ".part")
    part.write_bytes(b"half")
    save_tensors(good, state, FACTS)
    assert not part.exists()
    load_supernet(good)
