"""With fewer parameters than training outputs the optimizer no longer chooses the minimizer.

A network of 60 trainable parameters, linearized at θ₀, is trained in float64 by eight optimizers, each in several batch
orders: mini-batches first, then full batches, at rates that fall towards zero, until it has converged. For every number
of training points N: how far apart the minimizers end, and how far from θ₀ − J⁺r₀, which for N > P is the least-squares
formula θ₀ − (JᵀJ)⁻¹Jᵀr₀ and for N < P where gradient descent ends. Distances are root mean squares over test points,
relative to the standard deviation of the targets.
Usage: python benchmarks/underparameterized.py
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from _environment import store
from torch import Tensor, nn

INPUTS, HIDDEN, TEST = 15, 4, 500
PARAMETERS = INPUTS * HIDDEN
RATIOS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)

#: Rates of SGD in units of 2/(γ λ_max); whether the rate falls to ``FALL`` of itself while full batches are used.
OPTIMIZERS = {
    "SGD": (partial(torch.optim.SGD, lr=0.95), False),
    "SGD, half the rate": (partial(torch.optim.SGD, lr=0.5), False),
    "momentum 0.9": (partial(torch.optim.SGD, lr=0.5, momentum=0.9), False),
    "Nesterov 0.9": (partial(torch.optim.SGD, lr=0.5, momentum=0.9, nesterov=True), False),
    "AdaGrad": (partial(torch.optim.Adagrad, lr=0.3), False),
    "AdaGrad, twice the rate": (partial(torch.optim.Adagrad, lr=0.6), False),
    "RMSprop": (partial(torch.optim.RMSprop, lr=1e-2, eps=1e-14), True),
    # Squared gradients are averaged over 100 steps, so that the average can follow them as they vanish.
    "Adam": (partial(torch.optim.Adam, lr=1e-2, betas=(0.9, 0.99), eps=1e-14), True),
}
FALL = 1e-9


def linearized(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """J, r₀ of n training points, J at the test points, and the targets' standard deviation."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(INPUTS, HIDDEN, bias=False), nn.GELU(), nn.Linear(HIDDEN, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.normal_(0.0, 3.0 / INPUTS**0.5, generator=draw)
        model[2].weight.copy_(1.0 - 2.0 * (torch.arange(HIDDEN) % 2))
    model[2].requires_grad_(False)
    x_test = torch.randn(TEST, INPUTS, generator=draw, dtype=torch.float64)
    x = torch.randn(n, INPUTS, generator=draw, dtype=torch.float64)
    y = x[:, 0].sign() + x[:, 1] * x[:, 2] + 0.3 * torch.randn(n, generator=draw, dtype=torch.float64)

    def output(weight: Tensor, row: Tensor) -> Tensor:
        return torch.func.functional_call(model, {"0.weight": weight}, (row[None],)).squeeze()

    def features(inputs: Tensor) -> Tensor:
        weight = model[0].weight.detach()
        return torch.func.vmap(torch.func.grad(output), (None, 0))(weight, inputs).flatten(1)

    return features(x), model(x).detach()[:, 0] - y, features(x_test), y.std()


def minimizers(
    J: Tensor, r0: Tensor, factory: Any, fall: bool, *, orders: int, epochs: int, batch: int, steps: int
) -> tuple[Tensor, float, int]:
    """δ = θ − θ₀ at the end, a row per batch order, the gradient that is left, and the steps.

    All of these rules act on each parameter by itself, so that the rows of one tensor are separate runs.
    """
    n, size = J.shape
    scale = 2.0 / (2.0 / n * torch.linalg.matrix_norm(J, 2).item() ** 2)
    delta = torch.zeros(orders, size, dtype=torch.float64)
    optimizer = factory([delta])
    if isinstance(optimizer, torch.optim.SGD):
        # Small batches bear a smaller rate than the full one.
        full, rate = optimizer.param_groups[0]["lr"] * scale, optimizer.param_groups[0]["lr"] * scale * batch / n
    else:
        full = rate = optimizer.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = rate
    draw = [torch.Generator().manual_seed(order) for order in range(orders)]
    for _ in range(epochs):
        order = torch.stack([torch.randperm(n, generator=g) for g in draw])
        for rows in order.split(batch, dim=1):
            part = J[rows]
            residual = (part @ delta[..., None]).squeeze(-1) + r0[rows]
            delta.grad = 2.0 / rows.shape[1] * (residual[:, None] @ part).squeeze(1)
            optimizer.step()
    gram, constant = 2.0 / n * (J.T @ J), 2.0 / n * (J.T @ r0)
    left, step = 1.0, 0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = full * FALL ** (step / steps) if fall else full
        delta.grad = delta @ gram + constant
        if step % 500 == 0:
            left = float((delta.grad.norm(dim=1) / constant.norm()).max())
            if left < 1e-12:
                break
        optimizer.step()
    return delta, float(((delta @ gram + constant).norm(dim=1) / constant.norm()).max()), step


def measure(n: int, options: argparse.Namespace) -> dict[str, Any]:
    J, r0, J_test, spread = linearized(n, options.seed)
    formula = -torch.linalg.pinv(J, rtol=1e-12) @ r0

    def distance(a: Tensor, b: Tensor) -> float:
        """The largest, over pairs of rows, at the test points."""
        apart = (J_test @ a.T)[:, :, None] - (J_test @ b.T)[:, None, :]
        return float(apart.square().mean(dim=0).sqrt().max() / spread)

    condition = torch.linalg.cond(J).item() ** 2
    limit = min(options.steps, max(30_000, round(100 * condition)))
    ends, left, steps = {}, {}, {}
    for name, (factory, fall) in OPTIMIZERS.items():
        ends[name], left[name], steps[name] = minimizers(
            J, r0, factory, fall, orders=options.orders, epochs=options.epochs, batch=max(1, n // 5),
            steps=limit,
        )  # fmt: skip
    by_order = torch.stack(list(ends.values()), dim=1)
    plain = torch.cat([ends[k] for k in ends if OPTIMIZERS[k][0].func is torch.optim.SGD])
    adaptive = torch.cat([ends[k] for k in ends if OPTIMIZERS[k][0].func is not torch.optim.SGD])
    return {
        "N": n,
        "N/P": n / PARAMETERS,
        "condition": condition,
        "optimizers apart": max(distance(end, end) for end in by_order),
        "batch orders apart": max(distance(end, end) for end in ends.values()),
        "SGD to formula": distance(plain, formula[None]),
        "adaptive to formula": distance(adaptive, formula[None]),
        "gradient left": max(left.values()),
        "each to formula": {name: distance(end, formula[None]) for name, end in ends.items()},
        "each gradient left": left,
        "each steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--orders", type=int, default=3, help="batch orders per optimizer")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of mini-batches of a fifth of the points")
    parser.add_argument("--steps", type=int, default=300_000, help="full batches at most; 100 per condition number")
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS, help="N/P")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    print(f"P = {PARAMETERS}")
    for ratio in options.ratios:
        rows.append(measure(round(ratio * PARAMETERS), options))
        print(" | ".join(f"{k} {v:.3g}" for k, v in rows[-1].items() if not isinstance(v, dict)), flush=True)
    print(store("underparameterized", rows, vars(options)))


if __name__ == "__main__":
    main()
