"""tqdm's progress bars: in notebooks with widgets those, and bars of text, without a warning, elsewhere."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a notebook without ipywidgets has bars of text, which will do
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
