"""What a race should have found, and what it says that it did."""

from small_run import by_text

from wsx.spaces.nasbench201 import NASBENCH201


def top(table, archs, k):
    """The best archs of an exhaustive campaign, ties in the order of the population."""
    rows = by_text(table)
    texts = dict.fromkeys(NASBENCH201.format(arch) for arch in archs)
    fine = [text for text in texts if rows[text].status == "ok"]
    return sorted(fine, key=lambda text: -rows[text].correct)[:k]


def winners(report):
    return [winner.text for winner in report.winners]


def total(report):
    n_scored = report.n_run + report.n_shared + report.n_finished
    return n_scored + report.n_repeated + report.n_failed + report.n_eliminated
