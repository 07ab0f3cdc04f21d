"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets; tests that need them skip without it."""
    folder = os.environ.get("WHICHMIN_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("WHICHMIN_DATA names no folder of data sets")
    return Path(folder)
