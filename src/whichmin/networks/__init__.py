"""Networks for experiments: fully connected and convolutional, NTK and standard parametrization, with a scale α."""

from whichmin.networks.mlp import ACTIVATIONS, CNN, MLP, ScaledConv2d, ScaledLinear

__all__ = ["ACTIVATIONS", "CNN", "MLP", "ScaledConv2d", "ScaledLinear"]
