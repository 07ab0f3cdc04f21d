"""Products by oneDNN, and their derivatives."""

import pytest
import torch
import torch.nn.functional as F

from whichmin.tangent import products
from whichmin.tangent.products import product


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives(order, monkeypatch):
    monkeypatch.setattr(products, "_is_by_intel", lambda: False)
    torch.manual_seed(0)
    W, v = (torch.randn(128, 128) * 0.05).requires_grad_(), torch.randn(128) / 8
    x = torch.randn(200, 128, requires_grad=True)
    b = torch.randn(128).requires_grad_()

    def derivatives(multiply):
        value = (torch.tanh(multiply(torch.tanh(multiply(x, W, b)), W, None)) @ v).sum()
        for _ in range(order - 1):
            (g,) = torch.autograd.grad(value, x, create_graph=True)
            value = g.square().sum()
        return torch.autograd.grad(value, [W, x, b])

    for mine, plain in zip(derivatives(product), derivatives(F.linear), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))
