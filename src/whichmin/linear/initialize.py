"""Initializations: random, balanced, on the invariant set and at a given distance from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from whichmin.devices import default_device_aside
from whichmin.errors import DataError, ModelError
from whichmin.linear import _checks
from whichmin.linear._checks import Array, tensor


@default_device_aside()
def initialize(
    d: int,
    h: int,
    m: int,
    *,
    X: Any = None,
    balanced: bool = False,
    orthogonal: bool = False,
    near: float | None = None,
    exponent: float = 0.5,
    seed: int | Sequence[int] = 0,
) -> tuple[Tensor, Tensor]:
    """Weights U (d, h) and V (m, h) with independent entries N(0, h^{−2a}), moved where asked.

    Args:
        d: inputs.
        h: hidden units.
        m: outputs.
        X: inputs (N, d), which say what the row space is; needed by ``orthogonal`` and ``near``. ``balanced`` without X
            takes the whole input space for the row space, UᵀU = VᵀV.
        balanced: zero imbalance: U₁ takes V's singular values and right singular vectors (V's rank is cut to that of X
            where that is smaller) and random left ones.
        orthogonal: on the invariant set: the part of U₂ in the row space of [U₁; V] is removed (all of U₂ when h is not
            above the rank of X plus m).
        near: at this distance δ = ‖[VU₂ᵀ; U₁U₂ᵀ]‖_F of the invariant set: that part is scaled instead.
        exponent: a. For 1/4 < a ≤ 1/2 the level of imbalance grows like h^{1−2a}, and δ falls like h^{1/2−2a}.
        seed: of NumPy's default generator; a sequence of integers is one seed, too.

    Returns:
        (U, V), float64.

    Raises:
        ModelError: d, h or m not a positive integer, or an exponent that is not finite.
        DataError: X missing where it is needed, not (N, d), or of full column rank where ``near`` asks for a distance.
    """
    _check_sizes(d, h, m, exponent)
    _check_place(X, orthogonal, near)
    generator = np.random.default_rng(seed)
    u = generator.standard_normal((d, h)) * h**-exponent
    v = generator.standard_normal((m, h)) * h**-exponent
    rows = np.eye(d) if X is None else _row_space(X, d)
    upper = rows.T @ u
    still = u - rows @ upper
    if balanced:
        upper, v = _balance(v, rows.shape[1], generator)
    if orthogonal or near is not None:
        still = _place(still, np.concatenate([upper, v]), 0.0 if near is None else near, rows.shape[1] == d)
    return tensor(rows @ upper + still), tensor(v)


def _check_sizes(d: int, h: int, m: int, exponent: float) -> None:
    for name, value in (("d", d), ("h", h), ("m", m)):
        if int(value) != value or value < 1:
            raise ModelError(f"{name} is {value}; expected a positive integer.")
    if not np.isfinite(exponent):
        raise ModelError(f"exponent is {exponent}; expected a number, 1/4 < exponent ≤ 1/2 for the theory to apply.")


def _check_place(X: Any, orthogonal: bool, near: float | None) -> None:
    if orthogonal and near is not None:
        raise DataError(f"got orthogonal=True and near={near}: orthogonal is near=0, pass one of them.")
    if near is not None and not (np.isfinite(near) and near >= 0):
        raise DataError(f"near is {near}; expected a distance, 0 or more.")
    if X is None and (orthogonal or near is not None):
        raise DataError("X is missing: the invariant set depends on the row space of the inputs, pass X=…")


def _row_space(X: Any, d: int) -> Array:
    inputs = _checks.matrix(X, "X")
    if inputs.shape[1] != d:
        raise DataError(f"X has {inputs.shape[1]} columns and d is {d}: pass d=X.shape[1].")
    _, sigma, right = np.linalg.svd(inputs, full_matrices=False)
    return right[: _checks.rank(sigma, _checks.rounding(X))].T


def _balance(v: Array, n: int, generator: np.random.Generator) -> tuple[Array, Array]:
    left, values, right = np.linalg.svd(v, full_matrices=False)
    k = min(n, len(values))
    rotation, _ = np.linalg.qr(generator.standard_normal((n, k)))
    shared = values[:k, None] * right[:k]
    return rotation @ shared, left[:, :k] @ shared


def _place(still: Array, moving: Array, near: float, full_rank: bool) -> Array:
    if full_rank:
        if near:
            raise DataError(
                f"near is {near}, but X has full column rank: there is no U₂ and every network is on the set."
            )
        return np.zeros_like(still)
    _, values, right = np.linalg.svd(moving, full_matrices=False)
    basis = right[: _checks.rank(values, float(np.finfo(np.float64).eps))]
    inside = (still @ basis.T) @ basis
    outside = still - inside
    outside -= (outside @ basis.T) @ basis
    scale = near / float(np.linalg.norm(moving @ inside.T)) if near else 0.0
    return outside + scale * inside
