"""Infinitely wide fully connected networks in closed form: their kernels, and where training takes them."""

from whichmin.infinite.description import FullyConnected
from whichmin.infinite.distance import distance
from whichmin.infinite.limit import Layer, Limit
from whichmin.infinite.modules import ErfActivation
from whichmin.infinite.predict import InfinitePrediction, predict
from whichmin.infinite.reading import describe, kernel
from whichmin.minimizers import minimum_complexity, minimum_norm_interpolator

__all__ = [
    "ErfActivation",
    "FullyConnected",
    "InfinitePrediction",
    "Layer",
    "Limit",
    "describe",
    "distance",
    "kernel",
    "minimum_complexity",
    "minimum_norm_interpolator",
    "predict",
]
