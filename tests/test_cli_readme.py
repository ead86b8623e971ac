import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.compile(r"```(sh|python)\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_the_blocks_of_the_readme_run(tmp_path):
    blocks = BLOCKS.findall((ROOT / "README.md").read_text())
    assert {language for language, _ in blocks} == {"sh", "python"}
    # The commands as the README writes them, whatever environment the tests run in.
    command = tmp_path / "bin" / "wsx"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wsx.cli "$@"\n')
    command.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    # In one folder, as by a reader who tries both: what the first has trained and scored, the second goes on with.
    folder = tmp_path / "reader"
    folder.mkdir()
    for language, block in blocks:
        runner = ["sh", "-e", "-c"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*runner, block],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
