import fcntl
import shutil
import subprocess
import sys

import h5py
import pytest
from small_run import BN, SETTINGS, small_run, some_archs, write_archs

from wsx.spaces.nasbench201 import NASBENCH201

DATA = ["--data", "digits", "--n-train", "256", "--n-valid", "64", "--n-test", "101"]


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def refused(wsx):
    """Return a function that runs a command that must fail on purpose, and returns its message."""

    def call(*arguments):
        code, out, err = wsx(*arguments)
        assert code == 1, err
        assert out == ""
        assert err.startswith("wsx: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err

    return call


def train(out, *more, space="nasbench201"):
    settings = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    return ["train", "--space", space, *DATA, "--recipe", "digits", *settings, "--out", out, *more]


def evaluate(source, out, *more):
    return ["evaluate", source, "--out", out, "--quiet", *more]


@pytest.mark.parametrize("command", [["spaces", "nasbench210"], train("run", space="nasbench210")])
def test_an_unknown_space_is_suggested(refused, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    assert "'nasbench210'. Did you mean nasbench201 or" in refused(*command)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_recipe_is_suggested(refused, tmp_path):
    message = refused(
        "train", "--space", "nasbench201", *DATA, "--recipe", "digit", "--out", tmp_path / "run"
    )
    assert "no recipe named 'digit'. Did you mean digits" in message


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr", "--set 'lr' must read KEY=VALUE"),
        ("=3", "must read KEY=VALUE"),
        ("lr=fast", "lr is 'fast'; it must be of type float"),
        ("lr=-1", "lr is -1.0; it must be finite and not negative"),
        ("lr=nan", "lr is nan"),
        ("epochs=0", "epochs is 0; it must be at least 1"),
        ("flips=maybe", "flips is 'maybe'; it must be true or false"),
        ("chanels=4", "supernet option named 'chanels'. Did you mean channels"),
        ("channels=wide", "channels is 'wide'; it must be of type int"),
        ("channels=0", "channels is 0; it must be at least 1"),
        ("sampler=fare", "no sampler named 'fare'. Did you mean fair"),
    ],
)
def test_a_bad_setting_is_named(refused, tmp_path, setting, message):
    assert message in refused(*train(tmp_path / "run", "--set", setting))
    assert not (tmp_path / "run").exists()


def test_a_bad_line_of_an_arch_file_is_named(refused, run, tmp_path):
    good = NASBENCH201.format(some_archs(1)[0])
    file = tmp_path / "archs.txt"
    file.write_text(f"# two good ones\n{good}\n\n17\n{good[:-5]}\n15625\n")
    message = refused(*evaluate(run.path, tmp_path / "s.h5", "--archs", file, "--bn", BN))
    assert "archs.txt, line 5: " in message
    assert "(2 bad lines in all)" in message


@pytest.mark.parametrize("content", [b"", b"# nothing\n\n", b"\xff\xfe\x00"])
def test_an_arch_file_without_archs_is_named(refused, run, tmp_path, content):
    file = tmp_path / "archs.txt"
    file.write_bytes(content)
    assert "archs.txt" in refused(*evaluate(run.path, tmp_path / "s.h5", "--archs", file))


def test_a_missing_arch_file_is_named(refused, run, tmp_path):
    message = refused(*evaluate(run.path, tmp_path / "s.h5", "--archs", tmp_path / "absent"))
    assert "absent cannot be read" in message


@pytest.mark.parametrize("command", ["evaluate", "export-subnets"])
def test_a_missing_run_is_named(refused, tmp_path, command):
    message = refused(command, tmp_path / "absent", "--n", 3, "--out", tmp_path / "out")
    assert "absent holds no run (no run.json); train one with `wsx train`" in message


def test_a_truncated_checkpoint_is_named(refused, run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    path = next((tmp_path / "run" / "checkpoints").iterdir())
    for keep in (0, 100, path.stat().st_size // 2):
        path.write_bytes(path.read_bytes()[:keep] or b"")
        message = refused(*evaluate(tmp_path / "run", tmp_path / "s.h5", "--n", 2, "--bn", BN))
        assert path.name in message
        assert "truncated" in message or "damaged" in message
        shutil.copyfile(run.checkpoint_path(), path)


def test_a_locked_store_names_its_holder(refused, run, tmp_path):
    out = tmp_path / "s.h5"
    with (tmp_path / "s.h5.lock").open("w") as lock:
        lock.write('{"pid": 4321}')
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        message = refused(*evaluate(run.path, out, "--n", 2, "--bn", BN))
    assert "4321" in message
    assert "One writer at a time" in message


def scored(wsx, run, out, *more):
    code, _, err = wsx(*evaluate(run.path, out, "--n", 4, "--bn", BN, "--device", "cpu", *more))
    assert (code, err) == (0, "")
    return out


def test_a_store_of_a_newer_version_names_both(refused, wsx, run, tmp_path):
    out = scored(wsx, run, tmp_path / "s.h5")
    with h5py.File(out, "r+") as file:
        file.attrs["format_version"] = 99
    for command in (["analyze", out], evaluate(run.path, out, "--n", 2, "--bn", BN)):
        message = refused(*command)
        assert "99" in message
        assert "1" in message.replace("99", "")


def test_a_store_that_is_no_store_is_left_alone(refused, run, tmp_path):
    out = tmp_path / "s.h5"
    out.write_text("a letter")
    refused(*evaluate(run.path, out, "--n", 2, "--bn", BN))
    assert out.read_text() == "a letter"


def test_an_unknown_truth_column_is_suggested(refused, wsx, run, tmp_path):
    out = scored(wsx, run, tmp_path / "s.h5")
    texts = [NASBENCH201.format(arch) for arch in some_archs(4)]
    rows = [f"{text},0.{i + 1}" for i, text in enumerate(texts)]
    (tmp_path / "t.csv").write_text("\n".join(["arch,cifar10_test", *rows]) + "\n")
    message = refused("analyze", out, "--truth", f"{tmp_path / 't.csv'}:cifar10_tset")
    assert "cifar10_test" in message
    assert "'cifar10_tset'" in message


def test_unknown_truth_is_named(refused, wsx, run, tmp_path):
    out = scored(wsx, run, tmp_path / "s.h5")
    assert "absent.csv" in refused("analyze", out, "--truth", tmp_path / "absent.csv")
    assert "'digits-nasbench202'" in refused("analyze", out, "--truth", "digits-nasbench202")


def test_cuda_that_is_absent_is_one_line(refused, run, tmp_path, monkeypatch):
    monkeypatch.setattr("wsx.evaluators.devices.cuda_problem", lambda index: "no driver")
    message = refused(*evaluate(run.path, tmp_path / "s.h5", "--n", 2, "--device", "cuda"))
    assert "cuda was asked for and cannot be used: no driver. Use --device cpu" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", 2, "--bn", "nonsense"], "'nonsense' is none of: batch, running, calibrated"),
        (["--n", 2, "--bn", "calibrated:0x4"], "'calibrated:0x4' is none of"),
        (["--n", 2, "--bn", "calibrated:9x99"], "Use a smaller one, such as calibrated:1x256"),
        (["--n", 2, "--all", "--bn", BN], "exactly one of --n, --archs and --all"),
        (["--bn", BN], "exactly one of --n, --archs and --all"),
        (["--n", 2, "--bn", "batch"], "choose it with --batch-size"),
        (["--n", 20000, "--bn", BN], "cannot draw 20000 archs: nasbench201 has 15625"),
        (["--n", 0, "--bn", BN], "cannot draw 0 archs"),
        (["--n", -1, "--bn", BN], "cannot draw -1 archs"),
        (["--n", 2, "--bn", BN, "--measure", "functoins"], "Did you mean functions"),
        (["--n", 2, "--bn", BN, "--device", "gpu"], "device 'gpu' is none of: auto, cpu, cuda"),
        (["--n", 2, "--bn", BN, "--engine", "tvm"], "engine 'tvm' is none of: onnx, torch"),
        (["--n", 2, "--bn", BN, "--split", "train"], "split 'train' is none of: valid, test"),
        (["--n", 2, "--bn", BN, "--images", 0], "cannot take 0 images"),
        (["--n", 2, "--bn", BN, "--images", 999], "has 101; ask for fewer"),
        (["--n", 2, "--bn", BN, "--workers", 0], "--workers is 0"),
        (["--n", 2, "--bn", BN, "--batch-size", 0], "--batch-size is 0"),
        (["--n", 2, "--bn", BN, "--checkpoint", "best"], "it has epoch-0002"),
        (["--n", 2, "--bn", BN, "--data", "pictures=/no/such/place"], "/no/such/place"),
    ],
)
def test_a_bad_option_of_evaluate_is_named(refused, run, tmp_path, options, message):
    assert message in refused(*evaluate(run.path, tmp_path / "s.h5", *options))
    assert not (tmp_path / "s.h5").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--n", 2, "--verify", "some"], "--verify 'some' must be all or a number"),
        (["--n", 2, "--bn", BN, "--exporter", "tvm"], "exporter 'tvm' is none of: wsx, torch"),
        (["--n", 2, "--bn", "none"], "'none' is for subnets without BatchNorm"),
    ],
)
def test_a_bad_option_of_export_is_named(refused, run, tmp_path, options, message):
    assert message in refused("export-subnets", run.path, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_missing_data_is_named(refused, tmp_path):
    message = refused(
        "train",
        "--space",
        "nasbench201",
        "--data",
        f"cifar10={tmp_path / 'absent'}",
        "--out",
        tmp_path / "run",
    )
    assert "absent" in message
    assert not (tmp_path / "run").exists()


def test_the_folder_of_another_run_is_left_alone(refused, run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    message = refused(*train(tmp_path / "run", "--seed", "7", "--set", "lr=0.2"))
    assert "holds another run" in message
    assert "recipe.lr is 0.1, not 0.2" in message
    assert "seed is 0, not 7" in message
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_an_export_of_another_mode_is_left_alone(refused, wsx, run, tmp_path):
    archs = write_archs(tmp_path / "archs.txt", some_archs(2))
    command = [
        "export-subnets",
        run.path,
        "--archs",
        archs,
        "--out",
        tmp_path / "out",
        "--verify",
        0,
    ]
    assert wsx(*command, "--bn", "running")[0] == 0
    assert "bn differ" in refused(*command, "--bn", "batch")
    for option in (["--bn", BN], ["--engine", "torch"], ["--checkpoint", "epoch-0001"]):
        message = refused(*evaluate(tmp_path / "out", tmp_path / "s.h5", *option))
        assert "fixed when the folder was exported" in message


def test_a_folder_that_holds_something_else_is_left_alone(refused, run, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    message = refused("export-subnets", run.path, "--n", 1, "--bn", "running", "--out", tmp_path)
    assert "not empty and holds no wsx export" in message
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("seeds", ["", "a", "0,-1", "1,1", "0;1", "1.5"])
def test_bad_seeds_are_named(refused, tmp_path, seeds):
    message = refused(
        "train-standalone",
        "--space",
        "nasbench201",
        *DATA,
        "--n",
        1,
        "--seeds",
        seeds,
        "--out",
        tmp_path / "t.parquet",
    )
    assert f"--seeds {seeds!r}" in message


def test_a_table_of_another_kind_is_refused(refused, wsx, run, tmp_path):
    out = scored(wsx, run, tmp_path / "s.h5")
    message = refused("export-scores", out, "--out", tmp_path / "t.xlsx")
    assert "must end in .csv or .parquet" in message
    assert "html" in refused("report", out, "--out", tmp_path / "report.pdf")


def test_a_place_that_cannot_be_written_is_one_line(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refused(*train(tmp_path / "file" / "run"))


def test_two_campaigns_are_listed(refused, wsx, run, tmp_path):
    out = scored(wsx, run, tmp_path / "s.h5")
    scored(wsx, run, out, "--images", "50")
    message = refused("analyze", out)
    assert "holds 2 campaigns; name one by the beginning of its digest" in message
    assert message.count("images_sha256") == 2


def in_a_process(*arguments, **options):
    command = [sys.executable, "-m", "wsx.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["spaces", "nasbench201"], 0), (["spaces", "nasbench210"], 1), (["spaces", "--wrong"], 2)],
)
def test_exit_codes_of_the_process(arguments, code):
    done = in_a_process(*arguments)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.startswith("wsx: no space named 'nasbench210'")
        assert done.stderr.count("\n") == 1


def test_an_interrupt_says_how_to_go_on(wsx, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("wsx.studies.describe.list_spaces", interrupt)
    assert wsx("spaces") == (130, "", "wsx: interrupted; repeat the command to go on\n")


def test_a_fault_of_wsx_itself_keeps_its_traceback(wsx, monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr("wsx.studies.describe.list_spaces", fail)
    with pytest.raises(ZeroDivisionError):
        wsx("spaces")
