import importlib.metadata
import json
import sys

import pytest

from wsx.studies import doctor
from wsx.studies.doctor import diagnose

REAL_VERSION = importlib.metadata.version


def fake_versions(monkeypatch, changed):
    def version(name):
        found = changed[name] if name in changed else REAL_VERSION(name)
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_sound_installation_has_no_problems(monkeypatch):
    fake_versions(monkeypatch, {"onnxruntime": "1.26.0", "onnxruntime-gpu": None})
    diagnosis = diagnose()
    assert diagnosis.problems == []
    assert diagnosis.facts["ONNX Runtime"] == "onnxruntime 1.26.0"
    assert diagnosis.facts["CPU sessions"] == "work"
    json.dumps(diagnosis.as_dict(), allow_nan=False)


def test_two_distributions_come_with_the_commands_that_repair_them(monkeypatch):
    fake_versions(monkeypatch, {"onnxruntime": "1.26.0", "onnxruntime-gpu": "1.27.0"})
    (problem,) = diagnose().problems
    assert "`pip uninstall -y onnxruntime onnxruntime-gpu`" in problem
    assert "`pip install --no-deps onnxruntime-gpu` on a CUDA machine" in problem
    assert "`pip install --no-deps onnxruntime`" in problem
    assert problem.count("`") % 2 == 0
    assert "'" not in problem


def test_no_runtime_names_the_extras(monkeypatch):
    fake_versions(monkeypatch, {"onnxruntime": None, "onnxruntime-gpu": None})
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    diagnosis = diagnose()
    (problem,) = diagnosis.problems
    assert "wsx[cpu]" in problem
    assert "wsx[gpu]" in problem
    assert diagnosis.facts["ONNX Runtime"] == "not installed"


def test_a_missing_torch_is_a_fact_and_other_packages_are_problems(monkeypatch):
    fake_versions(monkeypatch, {"torch": None, "h5py": None, "onnxruntime-gpu": None})
    diagnosis = diagnose()
    assert diagnosis.facts["torch"] == "not installed"
    assert diagnosis.problems == ["h5py is not installed; run `pip install h5py`"]


def test_a_reason_why_cuda_does_not_work_is_a_fact(monkeypatch):
    monkeypatch.setattr(doctor, "cuda_problem", lambda: "no driver")
    assert diagnose().facts["CUDA sessions"] == "no driver"
    monkeypatch.setattr(doctor, "cuda_problem", lambda: None)
    assert diagnose().facts["CUDA sessions"] == "work"


@pytest.mark.parametrize("name", ["wsx", "python", "platform", "cores"])
def test_the_machine_is_described(name):
    assert diagnose().facts[name]
