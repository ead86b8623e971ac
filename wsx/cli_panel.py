"""What ``wsx analyze --panel`` and ``wsx report --panel`` do: many campaigns of one file together."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wsx.console import print_json, print_rows, progress_bar, result_table, stdout
from wsx.errors import OptionError

if TYPE_CHECKING:
    from wsx.analysis import Resampling
    from wsx.studies.analyze_panel import PanelAnalysis


@dataclass(frozen=True)
class PanelChoice:
    """What the command line says of a panel; nothing else of it may be set without ``--panel``.

    Raises:
        OptionError: It is.
    """

    is_asked: bool
    is_finetuned: bool
    window: int | None
    period: int | None

    def __post_init__(self) -> None:
        given = {
            "--finetuned": self.is_finetuned,
            "--window": self.window is not None,
            "--period": self.period is not None,
        }
        named = [name for name, is_given in given.items() if is_given]
        if named and not self.is_asked:
            raise OptionError(f"{', '.join(named)} needs --panel, which takes campaigns together")

    def analysis(
        self,
        scores: Path,
        resampling: "Resampling",
        *,
        truth: str | None,
        campaign: str | None,
        by: str,
        is_quiet: bool,
    ) -> "PanelAnalysis":
        """Return the analysis of all campaigns together."""
        from wsx.studies.analyze_panel import PanelOptions, analyze_panel

        options = PanelOptions(
            resampling.level,
            resampling.n_resamples,
            resampling.seed,
            by,
            self.window,
            self.period,
            self.is_finetuned,
        )
        with progress_bar(is_quiet=is_quiet) as start:
            return analyze_panel(
                scores, truth=truth, campaign=campaign, options=options, on_part=start("parts")
            )


def print_panel(analysis: "PanelAnalysis", *, as_json: bool) -> None:
    """Print an analysis: what it is of, and all its tables."""
    if as_json:
        return print_json(analysis.as_dict())
    print_rows("campaigns", analysis.facts())
    for part in analysis.parts:
        for table in part.tables:
            stdout.print(result_table(table))
    return None
