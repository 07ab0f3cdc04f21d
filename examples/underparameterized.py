"""Fewer parameters than training points
=====================================

With fewer parameters than training points every optimizer ends at one minimizer; with more, each at its own.

A network of 60 trainable parameters is linearized and trained by four optimizers, each in mini-batches first and then
full batch until it has converged. Linearized, it is a linear model: where there are more training points than
parameters, least squares has one solution, θ₀ − (JᵀJ)⁻¹Jᵀr₀, and nothing else is left to converge to.
"""

from functools import partial

import matplotlib.pyplot as plt
import torch

import whichmin as wm

OPTIMIZERS = {
    "SGD": partial(torch.optim.SGD, lr=0.9),
    "momentum": partial(torch.optim.SGD, lr=0.5, momentum=0.9),
    "AdaGrad": partial(torch.optim.Adagrad, lr=2.0),
    "Adam": partial(torch.optim.Adam, lr=2e-2, betas=(0.9, 0.95), eps=1e-14),
}


def network(width: int = 4) -> torch.nn.Module:
    """15 inputs, ``width`` hidden units whose incoming weights are trained, and fixed outgoing weights."""
    model = wm.networks.MLP((15, width, 1), activation="gelu", weight_std=3.0, dtype=torch.float64)
    last = model.get_parameter("layers.1.weight")
    with torch.no_grad():
        last.copy_(1.0 - 2.0 * (torch.arange(width) % 2))
    last.requires_grad_(False)
    return model


def problem(n: int, n_test: int = 200) -> wm.Task:
    """Noisy targets that no small network fits exactly."""
    draw = torch.Generator().manual_seed(0)
    X = torch.randn(n + n_test, 15, generator=draw, dtype=torch.float64)
    y = X[:, 0].sign() + X[:, 1] * X[:, 2] + 0.3 * torch.randn(len(X), generator=draw, dtype=torch.float64)
    return wm.Task(X[:n], y[:n], X[n:], y[n:])


def linearized_run(model: torch.nn.Module, task: wm.Task, factory: partial, steps: int) -> torch.Tensor:
    """The test outputs of the linearized network after training with a torch optimizer."""
    tangent = wm.Tangent(model)
    rows = torch.eye(task.n, dtype=torch.float64)[..., None]
    J = torch.stack([torch.cat([p.flatten() for p in tangent.vjp(task.X, row).values()]) for row in rows])
    r0 = (tangent.f0(task.X) - task.y)[:, 0]
    delta = torch.zeros(tangent.size, dtype=torch.float64)
    optimizer = factory([delta])
    group = optimizer.param_groups[0]
    full = group["lr"]
    if isinstance(optimizer, torch.optim.SGD):
        full *= task.n / torch.linalg.matrix_norm(J, 2).item() ** 2  # in units of 2/(γ λ_max)
    order = torch.Generator().manual_seed(0)
    for step in range(steps):
        mini = step < steps // 50
        batch = torch.randperm(task.n, generator=order)[: task.n // 5] if mini else slice(None)
        part = J[batch]
        delta.grad = 2.0 / len(part) * (part.T @ (part @ delta + r0[batch]))
        group["lr"] = full * (1e-6 ** (step / steps) if isinstance(optimizer, torch.optim.Adam) else 0.2 if mini else 1)
        optimizer.step()
    moved, tree = delta.split([p.numel() for p in tangent.parameters.values()]), {}
    for (name, p), part in zip(tangent.parameters.items(), moved, strict=True):
        tree[name] = part.reshape(p.shape)
    return tangent.f0(task.X_test) + tangent.jvp(task.X_test, tree)


def main(sizes: tuple[int, ...] = (20, 120), steps: int = 12_000) -> None:
    """Print how far each optimizer ends from the prediction."""
    model = network()
    _, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for n in sizes:
        task = problem(n)
        predicted = wm.predict(model, task, wm.Recipe(torch.optim.SGD, lr="best"), relinearize="never")
        print(f"{n} training points, {wm.Tangent(model).size} parameters")
        for note in predicted.notes:
            print(f"  note: {note}")
        distances = {}
        for name, factory in OPTIMIZERS.items():
            away = linearized_run(model, task, factory, steps) - predicted.test
            distances[name] = float(away.square().mean().sqrt())
            print(f"  {name:8} ends {distances[name]:.2g} from the prediction")
        ax.semilogx(list(distances.values()), list(distances), "o", label=f"{n} training points")
    ax.set(xlabel="root mean square distance to the prediction for gradient descent")
    ax.invert_yaxis()
    ax.legend()
    plt.show()


if __name__ == "__main__":
    main()
