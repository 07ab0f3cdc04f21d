"""Figures of the gallery's scripts: what the last result that a script has at its top level draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sphinx_gallery.scrapers import figure_rst

from whichmin.results import Result


def results(block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """The reStructuredText of that figure; nothing where a script has no result."""
    found = [value for value in block_vars["example_globals"].values() if isinstance(value, Result)]
    if not found:
        return ""
    path = next(block_vars["image_path_iterator"])
    found[-1].plot().savefig(path, dpi=150)
    return figure_rst([path], gallery_conf["src_dir"])


def _get_sg_image_scraper() -> Callable[..., str]:
    """What sphinx-gallery looks for in a module that it is given by its name."""
    return results
