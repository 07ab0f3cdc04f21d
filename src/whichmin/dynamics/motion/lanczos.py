"""A motion on a kernel that is too large to be decomposed, in a Lanczos space of the state it starts from.

Where every step is the same function of K, or a product of such, the residual and the coefficients stay in the space
that K makes of the starting vectors. The motion runs there, on a matrix of some dozens of rows, and what the space
misses of K times its coefficients is how far the residual is off. The space grows until that is rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from whichmin.dynamics.motion.motion import Motion, Start
from whichmin.errors import SingularKernelError
from whichmin.kernels.lanczos import LanczosSpace, probe
from whichmin.kernels.large import FIRST_SPACE, LARGEST_SPACE, LargeSpectrum
from whichmin.kernels.spectrum import decompose
from whichmin.losses import Array

#: Kernels that are small enough to be decomposed are where the space would take this part of their rows.
PART = 0.125


class LanczosMotion(Motion):
    """See the module.

    Args:
        start: where it starts.
        spectrum: that of its kernel.
        make: the motion from a start whose spectrum is small.
    """

    def __init__(self, start: Start, spectrum: LargeSpectrum, make: Callable[[Start], Motion]) -> None:
        super().__init__(start)
        self._spectrum = spectrum
        self._make = make
        self._settled = 0.0
        vectors = np.concatenate([start.residual[None], start.pushed])
        block = int(np.count_nonzero(np.abs(vectors).max(axis=1)))
        if not block:  # nothing moves, in whichever space
            vectors, block = probe(len(start.residual))[None], 1
        self._use(spectrum.lanczos(vectors, block * FIRST_SPACE))

    def _use(self, space: LanczosSpace) -> None:
        start, spectrum, V = self.start, self._spectrum, space.basis
        if spectrum.is_affordable and space.size > PART * len(V) and not space.is_invariant:
            self._space, self._inner = None, self._make(replace(start, spectrum=spectrum.decomposed()))
            return
        self._space = space
        small = replace(
            start,
            spectrum=decompose(torch.from_numpy(space.projected), spectrum.gamma, spectrum.resolution),
            residual=start.residual @ V,
            pushed=start.pushed @ V,
        )
        self._inner = self._make(small)

    def _at(self, t: float) -> Motion:
        """The motion, in a space that misses no more than rounding at time t, the more the later.

        Raises:
            SingularKernelError: no space that can be held does.
        """
        while t > self._settled and self._space is not None and not self._space.is_invariant:
            missed = self._space.defect(self._inner.coefficients(t)[0])
            size = float(np.linalg.norm(self.start.residual))
            if missed <= self._spectrum.missed * size:
                break
            if self._space.size >= LARGEST_SPACE:
                raise SingularKernelError(
                    f"{t:g} steps on a kernel of {len(self.start.residual)} training outputs are not known: a Krylov "
                    f"space of {self._space.size} dimensions misses {missed / size:.1g} of the residual. Ask for fewer "
                    "steps, or compute the network in double precision: model.double()."
                )
            self._use(self._spectrum.more(self._space))
        self._settled = max(self._settled, t)
        return self._inner

    def _lifted(self, y: Array) -> Array:
        return y if self._space is None else y @ self._space.basis.T

    def residual(self, t: float) -> Array:
        """From the space."""
        return self._lifted(self._at(t).residual(t))

    def coefficients(self, t: float) -> Array:
        """From the space."""
        return self._lifted(self._at(t).coefficients(t))

    def hidden(self, most: int) -> tuple[Array, Array]:
        """In the space."""
        values, Q = self._inner.hidden(most)
        return values, self._lifted(Q.T).T

    def weights(self, t: float) -> Array:
        """Those of the small motion."""
        return self._inner.weights(t)

    def loss(self, t: float) -> float:
        """In the space."""
        return self._at(t).loss(t)

    def displacement(self, t: float) -> float:
        """In the space."""
        return self._at(t).displacement(t)

    def travelled(self, end: float) -> tuple[Array, Array]:
        """In the space."""
        return self._at(end).travelled(end)

    def first_travelled(self, length: float, end: float, until: float | None) -> float:
        """In the space."""
        return self._first(lambda motion: motion.first_travelled(length, end, until))

    def first_moved(self, distance: float, end: float, flow: bool) -> float:
        """In the space."""
        return self._first(lambda motion: motion.first_moved(distance, end, flow))

    def first_below(self, until: float, most: float = math.inf) -> float:
        """In the space."""
        return self._first(lambda motion: motion.first_below(until, most))

    def _first(self, when: Callable[[Motion], float]) -> float:
        """When something happens for the first time, in a space that knows."""
        while True:
            motion = self._inner
            t = when(motion)
            if self._at(t) is motion:
                return t
