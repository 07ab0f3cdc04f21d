"""Infinitely wide fully connected networks in closed form: their kernels, and where training takes them."""

from whichmin.infinite.description import FullyConnected
from whichmin.infinite.layer import Layer
from whichmin.infinite.limit import Limit
from whichmin.infinite.modules import ErfActivation
from whichmin.infinite.predict import InfinitePrediction, predict
from whichmin.infinite.reading import describe, kernel
from whichmin.infinite.relative_distance import relative_distance

__all__ = [
    "ErfActivation",
    "FullyConnected",
    "InfinitePrediction",
    "Layer",
    "Limit",
    "describe",
    "kernel",
    "predict",
    "relative_distance",
]
