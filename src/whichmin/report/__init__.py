"""Reports: figures and self-contained HTML pages of results, found by their type (:mod:`whichmin.report.views`)."""

from whichmin.report.pages.entries import write_report
from whichmin.studies.experiment.entry import Entry

__all__ = ["Entry", "write_report"]
