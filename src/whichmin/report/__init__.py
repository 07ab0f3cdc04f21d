"""Reports: figures and one self-contained HTML file."""

from whichmin.report.pages.entries import write_report
from whichmin.studies.experiment.entry import Entry

__all__ = ["Entry", "write_report"]
