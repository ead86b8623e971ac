"""What is installed, what works, and how to repair what does not."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from typing import Any

from wsx.errors import MissingExtraError
from wsx.evaluators.blocks import cpu_block_size
from wsx.evaluators.devices import cuda_problem, import_onnxruntime, installed_distributions
from wsx.version import __version__

PACKAGES = ("torch", "onnx", "numpy", "scipy", "h5py", "safetensors", "scikit-learn", "datasets")
_REPAIR = (
    "onnxruntime and onnxruntime-gpu are both installed and own the same folder; keep one: "
    "`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install --no-deps onnxruntime-gpu` on a "
    "CUDA machine, else `pip install --no-deps onnxruntime`"
)


@dataclass(frozen=True)
class Diagnosis:
    """Facts about an installation, and one sentence per problem with its repair."""

    facts: dict[str, Any]
    problems: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return both, JSON-clean."""
        return {"facts": self.facts, "problems": self.problems}


def diagnose() -> Diagnosis:
    """Return the state of this installation."""
    facts: dict[str, Any] = {
        "wsx": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
    }
    problems = []
    for name in PACKAGES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
            if name != "torch":
                problems.append(f"{name} is not installed; run `pip install {name}`")
    runtimes = installed_distributions()
    facts["ONNX Runtime"] = ", ".join(f"{n} {v}" for n, v in runtimes.items()) or "not installed"
    if len(runtimes) > 1:
        problems.append(_REPAIR)
    else:
        try:
            import_onnxruntime()
            problem = cuda_problem()
            facts["CPU sessions"] = "work"
            n_channels = cpu_block_size()
            facts["CPU layout"] = f"blocks of {n_channels} channels" if n_channels else "plain"
            facts["CUDA sessions"] = "work" if problem is None else problem
        except MissingExtraError as error:
            problems.append(str(error))
    return Diagnosis(facts, problems)
