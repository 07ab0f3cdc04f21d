"""Reports: figures and one self-contained HTML file."""

from whichmin.report.entry import Entry
from whichmin.report.html import write_report

__all__ = ["Entry", "write_report"]
