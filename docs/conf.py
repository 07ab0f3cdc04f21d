"""How the documentation is built: ``sphinx-build -W docs site``, offline."""

from __future__ import annotations

import sys
from pathlib import Path

import whichmin

sys.path.insert(0, str(Path(__file__).parent))

project = "whichmin"
author = "The whichmin developers"
release = version = whichmin.__version__
copyright = author

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
exclude_patterns = ["**.ipynb_checkpoints", "jupyter_execute"]
html_theme = "furo"
html_title = f"whichmin {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Cost", "returns_style")]
