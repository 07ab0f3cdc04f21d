"""The optimizer chooses the minimizer
===================================

The optimizer chooses the minimizer: gradient descent and AdaGrad on a single training point.

One point is the smallest case in which both minimizers have a formula. Gradient descent takes the smallest step in the
2-norm, AdaGrad the smallest in the largest coordinate: f₀(x') + J(x')·sign J(x₁)/‖J(x₁)‖₁ · (y₁ − f₀(x₁)). The network
is then trained for real with both; the wider it is, the closer it ends to its formula.
"""

import copy

import matplotlib.pyplot as plt
import torch

import whichmin as wm


def trained(model: torch.nn.Module, task: wm.Task, adagrad_rate: float) -> torch.Tensor:
    """The test outputs after real training with torch's AdaGrad."""
    model = copy.deepcopy(model)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=adagrad_rate, eps=1e-30)
    loss = torch.nn.functional.mse_loss(model(task.X), task.y)
    while loss > 1e-12:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss = torch.nn.functional.mse_loss(model(task.X), task.y)
    return model(task.X_test).detach()


def main(widths: tuple[int, ...] = (64, 512, 4096)) -> None:
    """Compare formulas and trained networks, width by width."""
    digits = wm.data.load("digits", classes=(3, 8), n_train=2, n_test=100, dtype=torch.float64)
    task = wm.Task(digits.X[:1], digits.y[:1], digits.X_test)
    print("root mean square over 100 test points")
    print(" width | minimizers apart | gradient descent to formula | AdaGrad to formula")
    found = []
    for width in widths:
        model = wm.networks.MLP((64, width, 1), activation="tanh", dtype=torch.float64)
        descent = wm.predict(model, task, wm.Recipe(torch.optim.SGD, lr="best"), relinearize="never").test
        adagrad = wm.minimizers.adagrad_one_point(model, task.X, task.y, task.X_test)
        run = wm.train(model, task, wm.Recipe(torch.optim.SGD, lr="best"), until=1e-12)
        # A rate small enough that the first step, lr in every parameter, does not leave the linear regime.
        there = trained(model, task, adagrad_rate=0.05 / width**0.5)
        distances = (descent - adagrad, descent - run.test, adagrad - there)
        apart, one, two = (float(d.square().mean().sqrt()) for d in distances)
        print(f"{width:6} | {apart:16.3f} | {one:27.4f} | {two:18.4f}")
        found.append((apart, one, two))
    _, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    names = ("between the two minimizers", "gradient descent to its formula", "AdaGrad to its formula")
    for name, values in zip(names, zip(*found, strict=True), strict=True):
        ax.loglog(widths, values, "o-", label=name)
    ax.set(xlabel="width", ylabel="root mean square distance of outputs")
    ax.legend()
    plt.show()


if __name__ == "__main__":
    main()
