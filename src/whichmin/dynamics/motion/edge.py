"""Modes beyond the limit of stability: one law for every rule.

Along a path the kernel may outgrow the learning rate. Real training then oscillates at the edge of stability without
diverging, and its average is what is followed: a mode whose eigenvalue λ is ρ > 1 times the limit is driven as if it
were λ/(2ρ − 1), on the other side of the limit. Gradient descent, where z = lr·γ·λ > 2, multiplies it by −1/(z − 1) a
step in place of 1 − z: the oscillation dies out, the faster the further the mode is beyond the limit.
"""

from __future__ import annotations

import numpy as np

from whichmin.losses import Array

#: The largest part of the limit of stability at which a mode beyond it is driven, so that its oscillation dies out.
BELOW_LIMIT = 0.99


def driven_share(eigenvalues: Array, limit: float) -> Array | None:
    """By what each mode's gradient is multiplied, (modes,); None where no eigenvalue is above the limit.

    Args:
        eigenvalues: λ, (modes,), descending.
        limit: the eigenvalue at the limit of stability of the learning rate.
    """
    if not len(eigenvalues) or eigenvalues[0] <= limit:
        return None
    ratio = np.maximum(eigenvalues / limit, 1.0)
    return np.where(ratio > 1.0, np.minimum(1.0 / (2.0 * ratio - 1.0), BELOW_LIMIT / ratio), 1.0)
