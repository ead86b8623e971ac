import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_imports_point_one_way():
    lint = Path(sys.executable).with_name("lint-imports")
    command = [str(lint), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("name", ["exporters", "evaluators", "cli.py"])
def test_root_links_are_relative_and_resolve(name):
    link = ROOT / name
    assert link.is_symlink()
    assert link.readlink() == Path("wsx") / name
    assert link.exists()
    assert link.resolve() == (ROOT / "wsx" / name).resolve()


def test_scoring_and_analysis_load_no_torch():
    modules = [
        "wsx",
        "wsx.evaluators.population",
        "wsx.exporters.folder",
        "wsx.report",
        "wsx.studies.analyze",
        "wsx.studies.describe",
        "wsx.studies.doctor",
        "wsx.studies.evaluate_folder",
    ]
    script = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_every_public_name_of_the_package_is_there():
    import wsx

    for name in wsx.__all__:
        assert getattr(wsx, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        wsx.no_such_name  # noqa: B018
