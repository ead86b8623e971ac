"""Whole studies through the command line, and scores planted in the place of those that a study would make."""

import json

import numpy as np
import pytest

from wsx.cli import main
from wsx.studies.papers.variants import RankedSettings

N_ARCHS = 120
TRUTH = np.linspace(0.3, 0.9, N_ARCHS)
TEXTS = tuple(f"arch {i}" for i in range(N_ARCHS))


def run_twice(name, out, capsys, *overrides):
    """Run a study at its smallest scale, see that running it again changes nothing, and return its findings."""
    command = ["wsx", "study", name, "--scale", "tiny", "--out", str(out), "--workers", "1"]
    command += [word for override in overrides for word in ("--set", override)]

    def run():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", [*command, "--json", "--quiet"])
            with pytest.raises(SystemExit) as end:
                main()
        assert end.value.code == 0
        return json.loads(capsys.readouterr().out)

    found = run()
    times = _written(out)
    assert run() == found == json.loads((out / "findings.json").read_text())
    assert _written(out) == times
    assert {claim["verdict"] for claim in found["claims"]} <= {"holds", "does not hold", "open"}
    assert all("nan" not in claim["evidence"] for claim in found["claims"])
    assert found["tables"]
    assert all(series["x"] for plot in found["plots"] for series in plot["series"])
    return found, [path for path in times if path.suffix == ".safetensors"]


def _written(out):
    globs = ("*.safetensors", "*.h5", "*.txt")
    return {path: path.stat().st_mtime_ns for glob in globs for path in out.rglob(glob)}


def plant_truth(monkeypatch, texts=TEXTS, truth=TRUTH):
    """Give settings some archs and their truth, in the place of a table's."""
    monkeypatch.setattr(RankedSettings, "archs", lambda settings: (texts, truth))


def noisy(n_seeds, noise, rng, *, truth=TRUTH, level=0.5):
    """Accuracies (seed, 1, arch) about a level: truth and so many times as much noise, always as wide."""
    standard = (truth - truth.mean()) / truth.std()
    found = standard + noise * rng.normal(size=(n_seeds, 1, truth.size))
    return np.clip(level + 0.02 * found / np.hypot(1, noise), 0, 1)


def verdicts(found):
    """Verdicts by the first words of the claims."""
    return {claim.text: claim.verdict for claim in found.claims}
