"""What a kernel takes, guessed from few rows before it is made, and when products J(Jᵀv) take less."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from whichmin.tangent.features import Features

#: Of so many rows features are timed, to know what those of all rows take, and the part of that which many rows take.
TIMED_ROWS, AT_ONCE = 4, 0.5
#: Seconds that a pair of outputs adds to a linearization, with all that is asked of its kernel, on a CPU and elsewhere.
PAIR, PAIR_ELSEWHERE = 1e-7, 2e-9
#: Multiplications a second of a thread, and of another device.
SPEED, SPEED_ELSEWHERE = 2e10, 1e13
#: Many steps take no more products with a kernel than this, and its largest eigenvalue so many.
MANY_STEPS, LARGEST_EIGENVALUE = 128, 48
#: Products take the place of a kernel where they take at most this part of its time, and that so many seconds at least.
CHEAPER, LONG = 0.5, 2.0


def seconds_of_kernel(few: Callable[[int], Features], rows: int, device: torch.device) -> float:
    """About what a linearization takes at least: per-example gradients, products of their entries, pairs of outputs.

    Args:
        few: gives the features of so many rows.
        rows: how many there are.
        device: where they are.
    """
    times, multiplications, outputs = [], 0.0, 1
    for _ in range(2):
        started = time.perf_counter()
        features = few(TIMED_ROWS)
        float(features.outputs.detach().sum())  # which waits for the device
        times.append(time.perf_counter() - started)
        multiplications, outputs = features.multiplications(rows), features.outputs.shape[1]
    on_cpu = device.type == "cpu"
    pair, speed = (PAIR, SPEED * torch.get_num_threads()) if on_cpu else (PAIR_ELSEWHERE, SPEED_ELSEWHERE)
    gradients = AT_ONCE * min(times) * max(rows / TIMED_ROWS, 1.0)
    return gradients + multiplications / speed + (rows * outputs) ** 2 * pair


def products_of(steps: float) -> float:
    """How many products with a kernel so many steps in full batches take at most; infinity for its inverse."""
    return math.inf if math.isinf(steps) else min(steps, MANY_STEPS) + LARGEST_EIGENVALUE


def are_products_cheaper(products: float, kernel: float, product: Callable[[], object]) -> bool:
    """Whether so many products take less than a kernel that takes ``kernel`` seconds: one of them is timed."""
    if math.isinf(products) or kernel < LONG:
        return False
    started = time.perf_counter()
    product()
    return products * (time.perf_counter() - started) <= CHEAPER * kernel
