"""The frame that all pages share: title, finding, what was asked, the sections of each, versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from whichmin._version import __version__

if TYPE_CHECKING:
    from jinja2 import Template


def render(name: str, context: Mapping[str, Any]) -> str:
    """A page as text.

    Args:
        name: its template, which extends ``page.html.j2``.
        context: ``title``, ``finding`` (sentences), ``asked`` ((name, text) pairs), ``figures`` (sections of
            :func:`whichmin.report.figures.sections_of`), and what the template itself needs.
    """
    import torch

    frame = {
        "versions": [("whichmin", __version__), ("torch", torch.__version__), ("python", platform.python_version())],
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return _template(name).render(frame | dict(context))


def _template(name: str) -> Template:
    """A template of this package; text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("whichmin.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)
