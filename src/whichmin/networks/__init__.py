"""Networks for experiments: fully connected and convolutional in two parametrizations with a scale α, and residual."""

from whichmin.networks.mlp import ACTIVATIONS, CNN, MLP, ScaledConv2d, ScaledLinear
from whichmin.networks.resnet import ResNet

__all__ = ["ACTIVATIONS", "CNN", "MLP", "ResNet", "ScaledConv2d", "ScaledLinear"]
