"""θ₀, and the network linearized there when that is first asked for."""

from __future__ import annotations

import time
from functools import cached_property

from whichmin.dynamics.paths.clock import LINEARIZATION, is_timed, seconds_of_linearization
from whichmin.dynamics.paths.position import MovingNetwork, Position
from whichmin.kernels.modes import Spectrum
from whichmin.tangent.features import Features


class Origin:
    """θ₀, and the network linearized there when that is first asked for.

    Args:
        network: stands at θ₀.
    """

    def __init__(self, network: MovingNetwork) -> None:
        self.network, self._position, self._caches = network, network.position(), True

    @property
    def position(self) -> Position:
        """θ₀."""
        return self._position

    def remember(self) -> None:
        """The network stands at θ₀: keep what its cached layers know there."""
        self._position = self.network.position()

    @cached_property
    def _linearized(self) -> tuple[Features, Spectrum, float]:
        self.network.put(self._position)
        started = time.perf_counter()
        features, spectrum = self.network.start(self._caches)
        seconds = seconds_of_linearization(time.perf_counter() - started)
        self.remember()
        return features, spectrum, seconds

    @property
    def features(self) -> Features:
        """J(X)."""
        return self._linearized[0]

    @property
    def spectrum(self) -> Spectrum:
        """That of K(X, X)."""
        return self._linearized[1]

    @property
    def is_linearized(self) -> bool:
        """Whether that was made."""
        return "_linearized" in vars(self)

    @property
    def seconds(self) -> float:
        """How long the linearization took."""
        return self._linearized[2]

    def without_caches(self) -> None:
        """Cache no layers, for rules that move weights in another way than along Jᵀ."""
        self.network.put(self._position)
        if self.network.release():
            self._linearized = self.network.features(), *self._linearized[1:]
        self._caches = False
        self.remember()

    @classmethod
    def of_part(cls, network: MovingNetwork, features: Features, spectrum: Spectrum, seconds: float) -> Origin:
        """Where a network stands that was linearized there as a part of another one."""
        origin = cls(network)
        origin._linearized = features, spectrum, seconds
        return origin

    @cached_property
    def least_seconds(self) -> float:
        """About what a linearization takes at least, guessed from a few rows where it was not made."""
        if self.is_linearized:
            return self.seconds
        if not is_timed():
            return LINEARIZATION
        self.network.put(self._position)
        return self.network.seconds_of_kernel(self.network.examine()[0].route)
