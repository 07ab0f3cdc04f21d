"""How the documentation is built: ``sphinx-build -W docs site``, offline."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

import whichmin

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
#: Examples that are shown and not run; each says why.
SHOWN = {"start_page_figure"}
#: What examples need beside the package; they are run where it is installed.
NEEDED = {
    "lightning_module": ("lightning",),
    "low_rank_adapters": ("transformers", "peft"),
    "sequence_classifier": ("transformers",),
}
#: What running them leaves behind.
WRITTEN = EXAMPLES / "report.html"

sys.path.insert(0, str(HERE))
# The pages' cells import what lies beside them.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))


def is_run(example: str) -> bool:
    """Whether an example is run when the documentation is built."""
    return example not in SHOWN and all(importlib.util.find_spec(package) for package in NEEDED.get(example, ()))


project = "whichmin"
author = "The whichmin developers"
release = version = whichmin.__version__
copyright = author

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery/*.ipynb", "**.ipynb_checkpoints", "jupyter_execute"]
html_theme = "furo"
html_title = f"whichmin {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "|".join(rf"/{path.stem}\.py" for path in sorted(EXAMPLES.glob("*.py")) if is_run(path.stem)),
    "download_all_examples": False,
    "image_scrapers": ("results_scraper", "matplotlib"),
    "default_thumb_file": str(HERE / "_static" / "no-figure.svg"),
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,  # whose page loads a script from elsewhere
    "min_reported_time": 1e9,
    "abort_on_example_error": True,
}

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Cost", "returns_style")]


def setup(app: Sphinx) -> None:
    """Escape bars, which are absolute values in formulas and substitutions in reStructuredText."""

    def escape(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
        lines[:] = [line if "``" in line else line.replace("|", r"\|") for line in lines]

    app.connect("autodoc-process-docstring", escape)
    app.connect("build-finished", lambda *_: WRITTEN.unlink(missing_ok=True))
