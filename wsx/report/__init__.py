"""One self-contained HTML page per ranking, with pictures for print.

    write_report("report.html", title="...", texts=texts, predicted=accuracy, truth=truth,
                 summary=summarise(accuracy, truth), provenance={"seed": 0})

The page is a list of sections (``wsx.report.page``), one file each.
"""

from wsx.report._base import Failure, ReportData, Section
from wsx.report.write import ReportFiles, write_report

__all__ = ["Failure", "ReportData", "ReportFiles", "Section", "write_report"]
