"""What a recorder costs: time per step with and without, and memory against the number of steps.

One hidden layer of 2048, 784 inputs, N = 100 in full batches, 200 test points, default snapshots, float32. The loops
with and without a recorder are whole runs of so many steps that take turns, so that a disturbance hits both alike; the
time told is the whole run's, with entering and leaving. Memory is that of the tensors that the recorder refers to, and
of all tensors that are alive, less those of the loop.

Whether glibc gives freed memory back to the system, for page faults in the next step, depends on what else the heap
holds: in one process it strikes the loop with a recorder, in the next the one without, by up to 30 % of a step. The
script runs itself again with thresholds that rule it out for both.
Usage: python benchmarks/recorder.py [--steps 100 300 1000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from functools import partial
from statistics import median
from typing import Any

import torch
from _environment import store
from torch import nn

import whichmin as wm

STEADY_HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
OPTIMIZERS = {"SGD": partial(torch.optim.SGD, lr=1e-3), "Adam": partial(torch.optim.Adam, lr=1e-4)}


def problem(width: int, n: int, n_test: int) -> tuple[nn.Module, wm.Task]:
    torch.manual_seed(0)
    X = torch.randn(n + n_test, 784)
    y = X[:, :1].sign()
    model = nn.Sequential(nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 1))
    return model, wm.Task(X[:n], y[:n], X[n:], y[n:])


def loop(model: nn.Module, task: wm.Task, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(task.X), task.y).backward()
        optimizer.step()


def run(options: argparse.Namespace, name: str, steps: int, recorded: bool) -> tuple[float, wm.Recorder | None]:
    """Seconds per step of a whole run."""
    model, task = problem(options.width, options.n, options.n_test)
    optimizer = OPTIMIZERS[name](model.parameters())
    loop(model, task, optimizer, 5)
    started = time.perf_counter()
    recorder = None
    if recorded:
        with wm.Recorder(model, optimizer, task) as recorder:
            loop(model, task, optimizer, steps)
    else:
        loop(model, task, optimizer, steps)
    return (time.perf_counter() - started) / steps, recorder


def cost(options: argparse.Namespace, name: str, steps: int) -> dict[str, Any]:
    times: dict[bool, list[float]] = {False: [], True: []}
    kept = 0
    for turn in range(options.rounds + 1):
        for recorded in (turn % 2 == 0, turn % 2 == 1):
            seconds, recorder = run(options, name, steps, recorded)
            if turn:  # the first warms up
                times[recorded].append(seconds)
            kept = len(recorder.snapshots) if recorder else kept
    without, with_it = times[False], times[True]
    return {
        "optimizer": name,
        "steps": steps,
        "snapshots": kept,
        "without, ms": 1e3 * median(without),
        "with, ms": 1e3 * median(with_it),
        "cost by medians": median(with_it) / median(without) - 1,
        "cost by least": min(with_it) / min(without) - 1,
    }


def hooks(rounds: int = 2_000, turns: int = 20) -> float:
    """Microseconds that the hooks add to a step without a snapshot: the least of some turns with, less that without."""
    model, task = problem(1, 3, 1)
    times: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(2 * turns):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        recorder = wm.Recorder(model, optimizer, task)
        if turn % 2:
            recorder.__enter__()
            recorder._due = 10 * rounds
        started = time.perf_counter()
        for _ in range(rounds):
            optimizer.step()
        times[bool(turn % 2)].append(time.perf_counter() - started)
    return 1e6 * (min(times[True]) - min(times[False])) / rounds


def tensors() -> int:
    """Bytes of all storages that are alive."""
    gc.collect()
    alive = [t for t in gc.get_objects() if issubclass(type(t), torch.Tensor)]
    return sum({s.data_ptr(): s.nbytes() for t in alive for s in (t.untyped_storage(),)}.values())


def memory(options: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Bytes that a recorder holds, while the loop runs and after it, on a network of the width divided by 8."""
    model, task = problem(options.width // 8, options.n, options.n_test)
    optimizer = OPTIMIZERS["Adam"](model.parameters())
    loop(model, task, optimizer, 1)
    before = tensors()
    with wm.Recorder(model, optimizer, task) as recorder:
        loop(model, task, optimizer, steps)
        within = tensors() - before
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return {
        "steps": steps,
        "snapshots": len(recorder.snapshots),
        "within, in networks": within / size,
        "after, in networks": (tensors() - before) / size,
        "snapshots, in networks": len(recorder.snapshots) * 4 * (options.n + options.n_test) / size,
    }


def main() -> None:
    if os.environ.keys().isdisjoint(STEADY_HEAP):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | STEADY_HEAP)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--n-test", type=int, default=200)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--memory-steps", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {"hooks, microseconds a step": hooks(), "time": [], "memory": []}
    print(f"hooks: {found['hooks, microseconds a step']:.2f} microseconds a step")
    measures = [("time", partial(cost, options, name, steps)) for name in OPTIMIZERS for steps in options.steps]
    measures += [("memory", partial(memory, options, steps)) for steps in options.memory_steps]
    for kind, measure in measures:
        found[kind].append(measure())
        row = found[kind][-1]
        print(" | ".join(f"{k} {v if isinstance(v, str | int) else f'{v:.3g}'}" for k, v in row.items()), flush=True)
    print(store("recorder", found, vars(options)))


if __name__ == "__main__":
    main()
