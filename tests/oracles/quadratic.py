"""A quadratic ½ θᵀAθ − bᵀθ of two parameters, and optimizers run on it, with the way that numpy takes beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

rng = np.random.default_rng(0)
_B = rng.standard_normal((7, 7))
A = _B @ _B.T / 7 + 0.1 * np.eye(7)
b = rng.standard_normal(7)
START = rng.standard_normal(7)


def gradient(theta: np.ndarray) -> np.ndarray:
    return A @ theta - b


def parameters() -> list[nn.Parameter]:
    """θ as a 2×2 and a vector of 3."""
    start = torch.from_numpy(START)
    return [nn.Parameter(start[:4].clone().reshape(2, 2)), nn.Parameter(start[4:].clone())]


def flat(params: list[nn.Parameter]) -> np.ndarray:
    return torch.cat([p.detach().reshape(-1) for p in params]).numpy().copy()


def loss(params: list[nn.Parameter]) -> Tensor:
    theta = torch.cat([p.reshape(-1) for p in params])
    return 0.5 * theta @ torch.from_numpy(A) @ theta - torch.from_numpy(b) @ theta


def run(make: Callable[..., torch.optim.Optimizer], steps: int) -> np.ndarray:
    """θ after 0, 1, …, steps, (steps + 1, 7)."""
    params = parameters()
    optimizer = make(params)
    return np.stack([flat(params), *(follow(optimizer, params) for _ in range(steps))])


def follow(optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> np.ndarray:
    optimizer.zero_grad()
    loss(params).backward()
    optimizer.step()
    return flat(params)
