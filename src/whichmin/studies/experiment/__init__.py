"""A whole question in one object: data, network, seeds and training, as the command line and its files ask it.

``Experiment`` says what is asked, ``run`` answers it seed by seed and keeps what is finished, ``table`` sums it up.
Importing this package, or reading a configuration, does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whichmin._lazy import lazily
from whichmin.studies.experiment.config import Experiment

if TYPE_CHECKING:
    from whichmin.studies.experiment.runner import iterate, run
    from whichmin.studies.experiment.summary import table

__all__ = ["Experiment", "iterate", "run", "table"]

__getattr__ = lazily(
    __name__,
    {
        "iterate": "whichmin.studies.experiment.runner",
        "run": "whichmin.studies.experiment.runner",
        "table": "whichmin.studies.experiment.summary",
    },
)
