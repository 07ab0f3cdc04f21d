"""The figures of pages, one file each. Every file in this folder is read, so a new figure is a new file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from whichmin.report.drawing import Section, draw_sections

__all__ = ["sections_of"]


def sections_of(of: str, subject: Any, suffix: str = "") -> list[Section]:
    """See :func:`whichmin.report.drawing.draw_sections`; figures whose files have not been read yet are registered."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return draw_sections(of, subject, suffix)
