import base64
import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from wsx.analysis import Summary, SummaryOptions, summarise
from wsx.errors import OptionError, ShapeError
from wsx.report import Failure, ReportFiles, write_report

N_ARCHS = 30
HOSTILE = "</script><script>alert(1)</script><img src=http://x.test/a onerror=alert(2)>'\"&amp;"
LOADING = {"src", "href", "data", "srcset", "poster", "action", "formaction", "background"}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what the tests ask about: tags, texts by element, table rows, scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.values: dict[str, str] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.section, self.metric = "", ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append((tag, known))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.section = str(known["id"])
            self.rows[self.section] = []
        if tag == "tr":
            self.rows[self.section].append([])
        if tag in {"td", "th"}:
            self.rows[self.section][-1].append("")
        if tag == "script":
            self.scripts.append((known, ""))
        self.metric = known.get("data-metric") or ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[self.section][-1][-1] += data
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        if self.metric and data.strip():
            self.values[self.metric] = data

    def json(self, name: str) -> object:
        found = [body for attrs, body in self.scripts if name in attrs.values()]
        assert len(found) == 1
        return json.loads(found[0])


@functools.cache
def planted() -> dict[str, object]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.8, 0.95, size=N_ARCHS)
    outcomes = rng.random((N_ARCHS, 100)) < (truth * 0.7)[:, None]
    return {
        "texts": [f"arch-number-{i:03d}" for i in range(N_ARCHS)],
        "predicted": outcomes.mean(axis=1),
        "truth": truth,
        "summary": summarise(
            outcomes.mean(axis=1),
            truth,
            outcomes=outcomes,
            params=truth * 1e6,
            options=SummaryOptions(n_resamples=20),
        ),
        "params": truth * 1e6,
        "flops": np.arange(N_ARCHS) * 1e7,
        "columns": {"family": ["even", "odd"] * (N_ARCHS // 2)},
        "failures": [Failure("broken-arch", "failed", "no emitter for aten::fft")],
        "provenance": {"key": {"space": "nb201", "bn": "batch"}, "seeds": [0, 1]},
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    path = tmp_path_factory.mktemp("report") / "sub" / "r.html"
    return write_report(path, title="A report", **planted())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def page(written: ReportFiles) -> Page:
    return Page(written.page.read_text(encoding="utf-8"))


def test_every_element_is_closed_and_sections_are_in_order(page: Page) -> None:
    assert page.open == []
    assert list(page.rows) == [
        *("headline", "scatter", "ranks", "histogram", "top"),
        *("measures", "baselines", "failures", "provenance"),
    ]


def test_nothing_is_loaded_from_anywhere(page: Page, written: ReportFiles) -> None:
    for tag, attrs in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img", "form"}
        assert not LOADING & set(attrs)
    styles = re.findall(r"<style>(.*?)</style>", written.page.read_text("utf-8"), flags=re.DOTALL)
    assert len(styles) == 1
    assert not re.search(r"url\(|@import|https?:", styles[0])
    policy = [attrs for tag, attrs in page.tags if attrs.get("http-equiv")]
    assert "default-src 'none'" in str(policy[0]["content"])
    assert "http" not in str(policy[0]["content"])


def test_plotly_is_inside_exactly_once(page: Page) -> None:
    assert sum("plotly.js v" in body for _, body in page.scripts) == 1


def test_each_arch_stands_once_in_the_list_behind_the_figures(page: Page) -> None:
    hovers = page.json("archs")
    assert isinstance(hovers, list)
    for text in [str(text) for text in planted()["texts"]]:  # type: ignore[attr-defined]
        assert sum(text in hover for hover in hovers) == 1
    assert len(hovers) == N_ARCHS
    first = hovers[0].split("<br>")
    assert first[0] == "arch-number-000"
    assert "family: even" in first
    assert any(fact.startswith("true rank: ") for fact in first)


def values_of(array: object) -> np.ndarray:
    if isinstance(array, dict):
        return np.frombuffer(base64.b64decode(array["bdata"]), dtype=array["dtype"])
    return np.array(array)


def test_figures_show_the_numbers_that_were_given(page: Page) -> None:
    data = planted()
    scatter = page.json("figure-scatter")["data"][0]  # type: ignore[index]
    np.testing.assert_array_equal(values_of(scatter["x"]), 100 * data["truth"])  # type: ignore[operator]
    np.testing.assert_array_equal(values_of(scatter["y"]), 100 * data["predicted"])  # type: ignore[operator]
    assert scatter["meta"] == "archs"
    ranks = page.json("figure-ranks")["data"][1]  # type: ignore[index]
    assert values_of(ranks["x"]).sum() == N_ARCHS * (N_ARCHS + 1) / 2
    bars = page.json("figure-histogram")["data"]  # type: ignore[index]
    assert [values_of(bar["y"]).sum() for bar in bars] == [N_ARCHS, N_ARCHS]


def test_numbers_are_those_of_the_summary(page: Page) -> None:
    summary = planted()["summary"]
    assert isinstance(summary, Summary)
    metrics = summary.metrics
    assert page.values["kendall_tau"] == f"{metrics['kendall_tau'].value:.3f}"
    assert page.values["top_overlap@0.1"] == f"{100 * metrics['top_overlap@0.1'].value:.1f} %"
    assert page.values["regret@10"] == f"{100 * metrics['regret@10'].value:.2f} %"
    head, *rows = page.rows["measures"]
    assert head == ["measure", "value", "over archs", "over images", "over both"]
    assert len(rows) == len(metrics)
    for row, metric in zip(rows, metrics.values(), strict=True):
        assert row[0].startswith(metric.label)
        if metric.kind == "correlation" and metric.reason is None:
            limits = metric.intervals["both"]
            assert row[1] == f"{metric.value:.3f}"
            assert row[4] == f"{limits.low:.3f} … {limits.high:.3f}"
    params = summary.baselines["params"]["spearman"].value
    assert page.rows["baselines"][2][3] == f"{params:.3f}"


def test_a_measure_without_value_gives_its_reason(page: Page) -> None:
    row = next(row for row in page.rows["measures"] if row[0].startswith("P@50"))
    assert row[0].endswith("(k = 50 exceeds the 30 archs)")
    assert set(row[1:]) == {"—"}


def test_the_top_table_lists_the_best_first(page: Page) -> None:
    data = planted()
    order = np.argsort(-np.asarray(data["predicted"]), kind="stable")
    head, *rows = page.rows["top"]
    heads = ["rank", "arch", "supernet", "truth", "true rank", "params", "FLOPs", "family"]
    assert head == heads
    assert [row[1] for row in rows] == [f"arch-number-{i:03d}" for i in order[:25]]
    assert rows[0][2] == f"{100 * np.max(data['predicted']):.2f} %"  # type: ignore[operator]


def test_failures_and_provenance_are_told(page: Page) -> None:
    assert page.rows["failures"][1] == ["broken-arch", "failed", "no emitter for aten::fft"]
    assert page.rows["provenance"][1:] == [
        ["key.space", "nb201"],
        ["key.bn", "batch"],
        ["seeds", "[0, 1]"],
    ]


def test_hostile_text_stays_text(tmp_path: Path, page: Page) -> None:
    files = write_report(
        tmp_path / "h.html",
        title=HOSTILE,
        texts=[HOSTILE, "b"],
        predicted=[0.5, 0.25],
        columns={HOSTILE: [HOSTILE, "\x00\ud800"]},
        failures=[Failure(HOSTILE, HOSTILE, HOSTILE)],
        provenance={HOSTILE: {HOSTILE: HOSTILE}},
    )
    hostile = Page(files.page.read_text(encoding="utf-8"))
    assert hostile.open == []
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in page.tags}
    assert sum(tag == "script" for tag, _ in hostile.tags) == 4
    assert hostile.rows["top"][1][1] == HOSTILE
    assert hostile.rows["failures"][1] == [HOSTILE] * 3
    assert hostile.rows["provenance"][1] == [f"{HOSTILE}.{HOSTILE}", HOSTILE]
    # Figures know a little HTML: what hovers must not hold any but our line breaks.
    hovers = hostile.json("archs")
    assert isinstance(hovers, list)
    assert not re.search(r"<(?!br>)", "".join(hovers))


def test_the_hostile_test_fails_for_an_unescaped_page(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsx.report._html.text", str)
    with pytest.raises((AssertionError, KeyError, IndexError)):
        test_hostile_text_stays_text(tmp_path, page)


def test_without_truth_the_page_shows_accuracies_and_parameters(tmp_path: Path) -> None:
    files = write_report(
        tmp_path / "r.html",
        title="r",
        texts=["a", "b"],
        predicted=[0.5, 0.25],
        params=[1e6, 2e6],
        provenance={},
    )
    plain = Page(files.page.read_text(encoding="utf-8"))
    assert list(plain.rows) == ["headline", "scatter", "histogram", "top"]
    scatter = plain.json("figure-scatter")["data"][0]  # type: ignore[index]
    assert values_of(scatter["x"]).tolist() == [1, 2]
    assert sorted(files.pictures) == ["histogram", "scatter"]


def test_scores_that_are_no_accuracies_are_not_percent(tmp_path: Path) -> None:
    files = write_report(
        tmp_path / "r.html",
        title="perplexity",
        texts=["a", "b", "c"],
        predicted=[-61.5, -70.25, -99.0],
        truth=[-58.0, -60.5, -59.0],
        summary=summarise(
            [-61.5, -70.25, -99.0],
            [-58.0, -60.5, -59.0],
            options=SummaryOptions(n_resamples=0),
        ),
        provenance={},
    )
    plain = Page(files.page.read_text(encoding="utf-8"))
    assert plain.rows["top"][1] == ["1", "a", "-61.5", "-58", "1"]
    assert not any("%" in cell for row in plain.rows["top"] for cell in row)


@pytest.mark.parametrize("predicted", [[], [0.5], [0.0, 0.0], [1e300, -1e300]])
def test_degenerate_scores_make_a_page(tmp_path: Path, predicted: list[float]) -> None:
    files = write_report(
        tmp_path / "r.html",
        title="",
        texts=[""] * len(predicted),
        predicted=predicted,
        truth=predicted,
        summary=summarise(predicted, predicted, options=SummaryOptions(n_resamples=3)),
        provenance={},
    )
    assert Page(files.page.read_text(encoding="utf-8")).open == []


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"predicted": [0.5]}, ShapeError, r"predicted must have shape \(2,\)"),
        ({"truth": [0.5, 0.1, 0.2]}, ShapeError, r"truth must .* got \(3,\)"),
        ({"params": [[1, 2]]}, ShapeError, "params"),
        ({"predicted": [0.5, float("nan")]}, OptionError, "1 of 2 values of predicted"),
        ({"flops": [float("inf"), 1]}, OptionError, "flops"),
        ({"columns": {"x": [1]}}, ShapeError, "column 'x' has 1 values for 2 archs"),
        ({"columns": {"truth": [1, 2]}}, OptionError, "'truth' is taken"),
        ({"path": "report.pdf"}, OptionError, r"'report.pdf' does not end in \.html"),
    ],
)
def test_wrong_input_is_refused(
    tmp_path: Path, changes: dict, error: type[Exception], message: str
) -> None:
    given = {"path": tmp_path / "r.html", "texts": ["a", "b"], "predicted": [0.5, 0.4], **changes}
    with pytest.raises(error, match=message):
        write_report(**given, title="r", provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_summary_of_other_archs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="covers 30 archs, the report 2"):
        write_report(
            tmp_path / "r.html",
            title="r",
            texts=["a", "b"],
            predicted=[0.5, 0.4],
            summary=planted()["summary"],  # type: ignore[arg-type]
            provenance={},
        )
