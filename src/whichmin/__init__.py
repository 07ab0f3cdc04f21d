"""Which minimizer does my network converge to, what put it there, and how do I get a better one?

``predict`` says where training goes without training, ``train`` goes there for real, ``explain`` takes a network's test
outputs apart into named terms that add up exactly, ``mitigate`` says which remedy brings a better minimizer, ``seeds``
and ``compare`` how far initializations and ways to train lie apart, ``leave_out`` where training would end without some
of the rows, ``sweep`` a grid of all these questions. Names are imported when they are first used.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from whichmin._lazy import lazily
from whichmin._version import __version__

if TYPE_CHECKING:
    from whichmin import data, errors, infinite, linear, minimizers, mitigation, networks, optimizers
    from whichmin.checkpoint import Checkpoint
    from whichmin.decomposition.explain import explain
    from whichmin.decomposition.explanation import Explanation
    from whichmin.dynamics.predict import predict
    from whichmin.dynamics.prediction import Certificate, Prediction
    from whichmin.kernels.kernel import tangent_kernel
    from whichmin.kernels.linearize import Tangent
    from whichmin.kernels.modes import Spectrum
    from whichmin.kernels.operator import kernel_operator
    from whichmin.kernels.spectrum import spectrum
    from whichmin.mitigation.mitigate import mitigate
    from whichmin.mitigation.mitigation import Mitigation
    from whichmin.recipe.recipe import Recipe
    from whichmin.studies.compare import compare
    from whichmin.studies.comparison import Comparison
    from whichmin.studies.leave_out import leave_out
    from whichmin.studies.left_out import LeftOut
    from whichmin.studies.seed_spread import SeedSpread
    from whichmin.studies.seeds import seeds
    from whichmin.studies.sweep import sweep
    from whichmin.studies.swept import Sweep
    from whichmin.task import Task
    from whichmin.training.recorder import Recorder
    from whichmin.training.run import Run
    from whichmin.training.train import train

_HOME = {
    "Task": "whichmin.task",
    "tangent_kernel": "whichmin.kernels.kernel",
    "kernel_operator": "whichmin.kernels.operator",
    "Tangent": "whichmin.kernels.linearize",
    "spectrum": "whichmin.kernels.spectrum",
    "Spectrum": "whichmin.kernels.modes",
    "predict": "whichmin.dynamics.predict",
    "Prediction": "whichmin.dynamics.prediction",
    "Certificate": "whichmin.dynamics.prediction",
    "train": "whichmin.training.train",
    "Recorder": "whichmin.training.recorder",
    "Run": "whichmin.training.run",
    "Checkpoint": "whichmin.checkpoint",
    "explain": "whichmin.decomposition.explain",
    "Explanation": "whichmin.decomposition.explanation",
    "compare": "whichmin.studies.compare",
    "Comparison": "whichmin.studies.comparison",
    "leave_out": "whichmin.studies.leave_out",
    "LeftOut": "whichmin.studies.left_out",
    "mitigate": "whichmin.mitigation.mitigate",
    "Mitigation": "whichmin.mitigation.mitigation",
    "Recipe": "whichmin.recipe.recipe",
    "seeds": "whichmin.studies.seeds",
    "SeedSpread": "whichmin.studies.seed_spread",
    "sweep": "whichmin.studies.sweep",
    "Sweep": "whichmin.studies.swept",
}
_MODULES = ("data", "errors", "infinite", "linear", "minimizers", "mitigation", "networks", "optimizers")

__all__ = [
    "Certificate",
    "Checkpoint",
    "Comparison",
    "Explanation",
    "LeftOut",
    "Mitigation",
    "Prediction",
    "Recipe",
    "Recorder",
    "Run",
    "SeedSpread",
    "Spectrum",
    "Sweep",
    "Tangent",
    "Task",
    "__version__",
    "compare",
    "data",
    "errors",
    "explain",
    "infinite",
    "kernel_operator",
    "leave_out",
    "linear",
    "minimizers",
    "mitigate",
    "mitigation",
    "networks",
    "optimizers",
    "predict",
    "seeds",
    "spectrum",
    "sweep",
    "tangent_kernel",
    "train",
]


# The log is the caller's to show: without a handler, Python would write warnings to standard error itself.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__getattr__ = lazily(__name__, _HOME | {name: f"whichmin.{name}" for name in _MODULES})


def __dir__() -> list[str]:
    return sorted(__all__)
