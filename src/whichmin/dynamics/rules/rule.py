"""What is said of an optimizer whose motion is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whichmin.kernels.modes import Spectrum


@dataclass(frozen=True)
class Convergence:
    """The convergence of the training loss on the linearized network, once its slowest mode is left.

    Attributes:
        kind: ``"linear"``, the loss falls like factor^t in t steps, or ``"sublinear"``, like t^{−exponent}.
        factor: what a step (a unit of time, for a flow) leaves of the loss; 1 where it is sublinear.
        exponent: of t for a sublinear rate; infinity for a linear one.
        slowest: the eigenvalue of the kernel whose mode is the slowest.
    """

    kind: Literal["linear", "sublinear"]
    factor: float
    exponent: float
    slowest: float


class Rule:
    """An optimizer whose motion is known while the tangent features are frozen; made of a built optimizer.

    A rule is one file; the optimizer's entry in ``whichmin.optimizers.registry`` names it.

    Attributes:
        lr: the learning rate before any scheduler.
    """

    lr: float

    def limit(self, largest: float, gamma: float) -> float | None:
        """The learning rate at the limit of stability; None where none is known.

        Args:
            largest: λ_max of the tangent kernel.
            gamma: the curvature of the loss, γ.
        """
        return None

    def best_rate(self, spectrum: Spectrum, gamma: float) -> float | None:
        """The learning rate that ``lr="best"`` stands for; None where none is known to be best."""
        return None

    def convergence(self, spectrum: Spectrum, gamma: float) -> Convergence | None:
        """How fast the loss falls on the linearized network; None where that is not known."""
        return None
