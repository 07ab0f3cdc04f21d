"""Small problems in float64, and the linearized network trained step by step in weight space with plain autograd."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

import whichmin as wm

BEST = partial(torch.optim.SGD, lr="best")

#: Networks with more parameters than training outputs, and with fewer: sizes and the number of training points.
SHAPES = {"over": ((4, 12), 6), "under": ((2, 2), 20)}


def sgd(lr: float) -> partial:
    return partial(torch.optim.SGD, lr=lr)


def mlp_problem(
    sizes: tuple[int, ...], n: int, outputs: int = 1, *, n_test: int = 5, seed: int = 0, **settings
) -> tuple[nn.Module, wm.Task]:
    """A smooth network with random data."""
    settings = {"activation": "tanh", "bias": True, "bias_std": 1.0, "dtype": torch.float64, "seed": seed} | settings
    model = wm.networks.MLP([*sizes, outputs], **settings)
    g = torch.Generator().manual_seed(1000 + seed)

    def draw(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=g, dtype=torch.float64).to(settings["dtype"])

    return model, wm.Task(draw(n, sizes[0]), draw(n, outputs), draw(n_test, sizes[0]), draw(n_test, outputs))


def problem(kind: str, outputs: int = 1, seed: int = 0, **settings) -> tuple[nn.Module, wm.Task]:
    sizes, n = SHAPES[kind]
    return mlp_problem(sizes, n, outputs, seed=seed, **settings)


def jacobian(model: nn.Module, X: Tensor) -> Tensor:
    """∂f/∂θ, (n·C, P), row by row with plain autograd, over the trainable parameters in their order."""
    values = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for x in X:
        for out in model(x.unsqueeze(0)).reshape(-1):
            grads = torch.autograd.grad(out, values, retain_graph=True, allow_unused=True)
            filled = [torch.zeros_like(p) if g is None else g for p, g in zip(values, grads, strict=True)]
            rows.append(torch.cat([g.reshape(-1) for g in filled]))
    return torch.stack(rows)


def flat(state: dict[str, Tensor], model: nn.Module) -> Tensor:
    """The trainable parameters of a state dict as one vector."""
    return torch.cat([state[n].reshape(-1) for n, p in model.named_parameters() if p.requires_grad])


@dataclass(frozen=True)
class Dense:
    """The linearized network with its Jacobians written out."""

    J: Tensor
    J_test: Tensor
    f0: Tensor
    f0_test: Tensor
    y: Tensor
    theta: Tensor

    @classmethod
    def of(cls, model: nn.Module, task: wm.Task) -> Dense:
        with torch.no_grad():
            f0, f0_test = model(task.X).reshape(-1), model(task.X_test).reshape(-1)
        theta = flat(model.state_dict(), model)
        return cls(jacobian(model, task.X), jacobian(model, task.X_test), f0, f0_test, task.y.reshape(-1), theta)

    @property
    def gamma(self) -> float:
        return 2.0 / len(self.y)

    @property
    def r0(self) -> Tensor:
        return self.f0 - self.y

    def outputs(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        return self.f0 + self.J @ delta, self.f0_test + self.J_test @ delta

    def descend(self, lr: float, steps: int) -> Tensor:
        """θ − θ₀ after so many steps of gradient descent, one at a time."""
        delta = torch.zeros_like(self.theta)
        for _ in range(steps):
            delta = delta - lr * self.gamma * self.J.T @ (self.r0 + self.J @ delta)
        return delta

    def limit(self) -> Tensor:
        """θ − θ₀ in the limit: the least-squares solution that is nearest to θ₀."""
        return -torch.linalg.lstsq(self.J, self.r0.unsqueeze(1), driver="gelsd").solution[:, 0]


def distance(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference, of tensors of one size."""
    assert a.numel() == b.numel()
    return float((a.reshape(-1).double() - b.reshape(-1).double()).abs().max())


def rms(a: Tensor, b: Tensor) -> float:
    """The root mean square difference."""
    assert a.shape == b.shape
    return float((a.double() - b.double()).square().mean().sqrt())
