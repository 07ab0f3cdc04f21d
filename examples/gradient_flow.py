"""Gradient flow at many times
===========================

Gradient flow at many times, on the linearized network and along the path: when is the network lazy?

The wider the network, the smaller the part of its outputs that one linearization misses.
"""

from functools import partial

import matplotlib.pyplot as plt
import torch

import whichmin as wm


def main(widths: tuple[int, ...] = (64, 256, 1024), n: int = 40, intervals: int = 24) -> None:
    """Compare both kinds of prediction, width by width, at five times."""
    task = wm.data.load("digits", classes=(3, 8), n_train=n, n_test=100, dtype=torch.float64)
    flow = partial(torch.optim.SGD, lr=1.0)  # with flow=True time is lr·steps
    times = [0.3, 1.0, 3.0, 10.0, 30.0]
    print("root mean square distance of the linearized theory to the path, on 100 test points")
    print(" width | " + " | ".join(f"t = {t:<4g}" for t in times))
    _, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for width in widths:
        model = wm.networks.MLP((64, width, 1), activation="tanh", dtype=torch.float64)
        linearized = wm.predict(model, task, flow, steps=times, flow=True, relinearize="never")
        path = wm.predict(model, task, flow, steps=times, flow=True, relinearize=intervals)
        distance = (linearized.test - path.test).square().mean(dim=(1, 2)).sqrt()
        print(f"{width:6} | " + " | ".join(f"{d:8.2g}" for d in distance.tolist()))
        ax.loglog(times, distance.tolist(), "o-", label=f"width {width}")
    ax.set(xlabel="time, lr·steps", ylabel="distance of one linearization to the path")
    ax.legend()
    plt.show()


if __name__ == "__main__":
    main()
