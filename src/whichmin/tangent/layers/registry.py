"""The kinds of layers that are known."""

from __future__ import annotations

from functools import cache
from typing import Any

from whichmin.tangent.layers.base import Layer, Recognizer
from whichmin.tangent.layers.bias import Bias
from whichmin.tangent.layers.convolution import Convolution
from whichmin.tangent.layers.dense import Dense
from whichmin.tangent.layers.embedding import Embedding
from whichmin.tangent.layers.gain import Gain
from whichmin.tangent.layers.normalization import Normalization

#: All kinds of layers; of two that claim one function of torch the later one has it.
LAYERS: tuple[type[Layer], ...] = (Dense, Convolution, Embedding, Normalization, Gain, Bias)


def recognizers() -> dict[Any, Recognizer]:
    """The functions of torch whose calls are recognized."""
    return _recognizers(LAYERS)


@cache
def _recognizers(layers: tuple[type[Layer], ...]) -> dict[Any, Recognizer]:
    return {function: recognize for layer in layers for function, recognize in layer.calls().items()}
