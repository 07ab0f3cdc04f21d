"""The frame that all pages share: title, finding, what was asked, the sections of each, versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from whichmin.storage import versions

if TYPE_CHECKING:
    from jinja2 import Environment


def render(name: str, context: Mapping[str, Any]) -> str:
    """A page as text.

    Args:
        name: its template, which extends ``page.html.j2``.
        context: ``title``, ``finding`` (sentences), ``asked`` ((name, text) pairs), ``figures`` (sections of
            :func:`whichmin.report.figures.sections_of`), and what the template itself needs.
    """
    frame = {
        "versions": list(versions().items()),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return fill(name, frame | dict(context))


def fill(name: str, context: Mapping[str, Any]) -> str:
    """A template as text.

    Args:
        name: the template.
        context: what it needs.
    """
    return _templates().get_template(name).render(context)


@cache
def _templates() -> Environment:
    """The templates of this package, each read once; text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("whichmin.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
