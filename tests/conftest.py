"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Beside other workers a test uses one core, also in the processes that it starts; set before torch and numpy are read.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)


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


@pytest.fixture
def undrawn() -> Iterator[None]:
    """For tests of a report's words: titles and texts stand in place of the drawings, which take most of the time."""
    from oracles.pages import without_drawings

    with without_drawings():
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_timed_choices() -> Iterator[None]:
    """Real training counts as dear, so that the way a prediction takes does not depend on how busy the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("whichmin.dynamics.paths.real.RealTraining.seconds_per_step", 1e6)
        yield
