"""The law of one dense layer of an infinitely wide network."""

from __future__ import annotations

from dataclasses import dataclass

from whichmin.shown import Shown


@dataclass(frozen=True)
class Layer(Shown):
    """The law of one dense layer and how much its parameters add to the tangent kernel.

    With H the per-unit second moment E[h(x) h(x')] of the layer's input, Σ that of its output and Θ the tangent kernel,

        Σ = weight_variance · H + bias_variance
        Θ ← weight_tangent · H + bias_tangent + weight_variance · Θ

    (Jacot et al. 2018; Lee et al. 2019). A layer z = β(α W h + b) with n inputs, Var W = s², Var b = u² has
    weight_variance = n(βαs)², bias_variance = (βu)², weight_tangent = n(βα)², bias_tangent = β².
    """

    weight_variance: float
    bias_variance: float
    weight_tangent: float
    bias_tangent: float
