import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from wsx.cli import app
from wsx.version import __version__

COMMANDS = sorted(typer.main.get_command(app).commands)
HEAVY = ("torch", "onnxruntime", "onnx", "datasets", "sklearn", "scipy", "h5py", "matplotlib")


def test_the_commands_of_the_loop_exist():
    loop = {"spaces", "train", "train-standalone", "export-subnets", "evaluate", "analyze"}
    assert loop | {"report", "doctor", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_has_help(command):
    described = typer.main.get_command(app).commands[command]
    assert described.help
    for parameter in described.params:
        assert getattr(parameter, "help", None), parameter.name
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert described.help.split(":")[0].split(",")[0][:20] in shown.output


def test_no_command_shows_the_help():
    shown = CliRunner().invoke(app, [])
    assert "evaluate" in shown.output


def test_the_version_is_printed_alone():
    shown = CliRunner().invoke(app, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"{__version__}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    script = (
        "import sys, json\n"
        f"sys.argv = ['wsx', *{arguments!r}]\n"
        "from wsx.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    code = end.code\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print(json.dumps([code, heavy]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stderr.splitlines()[-1]) == [0, []]
    assert done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["evalaute"],
        ["evaluate"],
        ["evaluate", "run"],
        ["train", "--space", "nasbench201"],
        ["train", "--epochs", "3"],
        ["evaluate", "run", "--out", "s.h5", "--n", "many"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    assert CliRunner().invoke(app, arguments).exit_code == 2
