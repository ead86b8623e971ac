"""wsx analyze and wsx report with --panel: JSON, tables, a page, and one line where the input is bad."""

import json

import pytest
from test_report_page import Page
from test_studies_analyze_panel import QUALITY, noisy, planted, write_truth


def test_the_command_prints_json_and_tables_and_writes_a_page(wsx, tmp_path):
    path = planted(tmp_path / "s.h5", noisy(2, 12))
    truth = write_truth(tmp_path / "t.csv", QUALITY)
    common = [path, "--truth", truth, "--panel", "--resamples", "50", "--window", "4"]
    code, out, err = wsx("analyze", *common, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert list(told["parts"]) == ["variance", "stability", "truth", "ranks", "periodicity"]
    assert set(told) == {
        *("key", "runs", "seeds", "checkpoints", "steps", "n_archs", "n_images", "left_out"),
        *("truth", "n_without_truth", "selection", "ranked_by", "window", "parts"),
    }
    assert (told["window"], told["runs"], told["n_archs"]) == (4, ["run-0", "run-1"], 5)
    assert "checkpoint_sha256" not in told["key"]
    code, out, err = wsx("analyze", *common)
    assert (code, err) == (0, "")
    assert "Where the variance comes from" in out
    assert "GT-Tau" in out
    code, out, err = wsx("report", *common, "--out", tmp_path / "r.html", "--json")
    assert (code, err) == (0, "")
    files = json.loads(out)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert list(page.rows) == [
        *("variance", "plot-variance", "stability", "plot-s-tau", "plot-scores"),
        *("truth", "plot-gt-tau", "ranks", "plot-ranks", "periodicity", "plot-periodicity"),
        "facts",
    ]
    assert set(files) == {
        *("page", "variance", "s-tau", "scores", "gt-tau", "ranks", "periodicity")
    }
    assert len(page.json("figure-gt-tau")["data"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--window", "2"], "--window needs --panel"),
        (["--finetuned"], "--finetuned needs --panel"),
        (["--period", "5"], "--period needs --panel"),
        (["--panel"], "one campaign to analyse"),
        (["--panel", "--finetuned"], "no campaign of fine-tuned subnets"),
        (["--panel", "--by", "speed"], "not by 'speed'"),
        (["--panel", "--campaign", "ffff"], "ffff"),
    ],
)
@pytest.mark.parametrize("command", ["analyze", "report"])
def test_bad_input_is_one_line(wsx, tmp_path, command, options, message):
    path = planted(tmp_path / "s.h5", noisy(1, 1))
    out = ["--out", tmp_path / "r.html"] if command == "report" else []
    code, told, err = wsx(command, path, *out, *options)
    assert (code, told) == (1, "")
    assert message in err
    assert err.count("\n") == 1
