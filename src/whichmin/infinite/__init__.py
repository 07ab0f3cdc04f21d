"""Infinitely wide fully connected networks in closed form: their kernels, and where training takes them."""

from whichmin.infinite.description import FullyConnected
from whichmin.infinite.layer import Layer
from whichmin.infinite.limit import Limit
from whichmin.infinite.modules import ErfActivation
from whichmin.infinite.predict import InfinitePrediction, predict
from whichmin.infinite.reading import describe, kernel
from whichmin.infinite.relative_distance import relative_distance
from whichmin.minimizers import minimum_complexity, minimum_norm_interpolator

__all__ = [
    "ErfActivation",
    "FullyConnected",
    "InfinitePrediction",
    "Layer",
    "Limit",
    "describe",
    "kernel",
    "minimum_complexity",
    "minimum_norm_interpolator",
    "predict",
    "relative_distance",
]
