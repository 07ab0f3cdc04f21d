"""What is refused when a model is run on inputs for the first time."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
import torch
from torch import nn

from oracles.zoo import build
from whichmin.errors import ModelError
from whichmin.tangent.examine import examine


@pytest.mark.parametrize("draw", [np.random.rand, random.random, lambda: torch.rand(1)])
def test_models_that_draw_are_refused(draw):
    class Drawing(nn.Linear):
        def forward(self, x):
            draw()
            return super().forward(x)

    with pytest.raises(ModelError, match="draws random numbers"):
        examine(Drawing(3, 1), torch.randn(4, 3))


def test_random_numbers_that_another_thread_draws_are_not_the_models():
    class Beside(nn.Linear):
        calls = 0

        def forward(self, x):
            if self.calls == 0:
                thread = threading.Thread(target=random.random)
                thread.start()
                thread.join()
            self.calls += 1
            return super().forward(x)

    model = Beside(3, 1)
    assert examine(model, torch.randn(4, 3)).outputs == 1
    assert model.calls > 1


def test_outputs_against_targets():
    model, X = build("mlp", 2, 3)
    assert examine(model, X, outputs=2).outputs == 2
    with pytest.raises(ModelError, match="the model has 2 outputs per row; expected 3, one for each class"):
        examine(model, X, outputs=3)


def test_outputs_that_are_not_finite():
    model, X = build("mlp", 1, 3)
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    with pytest.raises(ModelError, match="output is not finite on X, first in row 0"):
        examine(model, X)
