"""The archs at the top, the archs that failed, and where the numbers come from."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from wsx.report._base import ReportData, Section
from wsx.report._html import note, table
from wsx.report._numbers import count_text, is_accuracy, rank_text, score_text

N_TOP = 25


def build_top(data: ReportData) -> str:
    """Return the archs that the supernet puts first."""
    if not data.n_archs:
        return ""
    facts = arch_facts(data)
    order = np.argsort(-data.predicted, kind="stable")[:N_TOP]
    rows = [
        [
            rank_text(data.predicted_ranks[arch]),
            data.texts[arch],
            *(fact(int(arch)) for fact in facts.values()),
        ]
        for arch in order
    ]
    body = table(["rank", "arch", *facts], rows, n_text_columns=2)
    return f'<div class="archs">{body}</div>'


def build_failures(data: ReportData) -> str:
    """Return the archs without a score, or nothing where all have one."""
    if not data.failures:
        return ""
    rows = [[failure.text, failure.status, failure.error] for failure in data.failures]
    body = table(["arch", "status", "error"], rows, n_text_columns=3)
    explanation = "These archs have no score and take part in no number above."
    return f'{note(explanation)}<div class="failures">{body}</div>'


def build_provenance(data: ReportData) -> str:
    """Return where the numbers come from, one row per fact."""
    if not data.provenance:
        return ""
    rows = [[name, _plain(value)] for name, value in _flat(data.provenance).items()]
    return f'<div class="code">{table(["what", "value"], rows, n_text_columns=2)}</div>'


def arch_facts(data: ReportData) -> dict[str, Callable[[int], str]]:
    """Return what is known about each arch: for each name a function from its index to words."""
    predicted, truth, ranks = data.predicted, data.truth, data.truth_ranks
    as_percent = is_accuracy(predicted)
    facts: dict[str, Callable[[int], str]] = {
        "supernet": lambda arch: score_text(predicted[arch], as_percent=as_percent)
    }
    if truth is not None and ranks is not None:
        true_percent = is_accuracy(truth)
        facts["truth"] = lambda arch: score_text(truth[arch], as_percent=true_percent)
        facts["true rank"] = lambda arch: rank_text(ranks[arch])
    params, flops = data.params, data.flops
    if params is not None:
        facts["params"] = lambda arch: count_text(params[arch])
    if flops is not None:
        facts["FLOPs"] = lambda arch: count_text(flops[arch])
    for name, values in data.columns.items():
        facts[name] = partial(_entry, values)
    return facts


def _entry(values: Sequence[object], arch: int) -> str:
    return _plain(values[arch])


def _plain(value: object) -> str:
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested mappings as one, with dots between the names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


TOP = Section("top", "Best under the supernet", build_top)
FAILURES = Section("failures", "Failed archs", build_failures)
PROVENANCE = Section("provenance", "Where the numbers come from", build_provenance)
