"""A residual network on CIFAR-10 with cross-entropy, end to end, N = 100. Needs WHICHMIN_DATA.

    python benchmarks/residual.py [--width 16] [--norm group] [--steps 100] [--seeds 3] [--threads 2]

For classes 0 and 1, and for all ten: what a linearization needs, which is known before it is made; the kernel, beside
a training step; predictions of gradient descent and of Adam, 1e-3, to a number of steps, each beside real training; the
explanation of the trained network; and a comparison of the two optimizers over seeds. ``distance`` and ``estimate`` are
root mean squares of test outputs, over the standard deviation of the trained network's.
"""

from __future__ import annotations

import argparse
import re
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from _environment import store

import whichmin as wm

T = TypeVar("T")
LOSS = torch.nn.CrossEntropyLoss()
CLASSES = {"0/1": (0, 1), "ten": tuple(range(10))}
Row = dict[str, Any]


def timed(work: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def planned(model: torch.nn.Module, task: wm.Task, optimizer: Any) -> str:
    """What one linearization would need, as it is said where that is more than it may have."""
    try:
        wm.predict(model, task, optimizer, steps=1, relinearize="never", memory="1 KiB")
    except wm.errors.MemoryPlanError as error:
        found = re.search(r"needs ([\d.]+ \w+)", str(error))
        assert found is not None
        return found[1]
    raise AssertionError("a kernel within a kibibyte")


def seconds_of_a_step(model: torch.nn.Module, task: wm.Task) -> float:
    times = []
    for _ in range(5):
        _, seconds = timed(lambda: LOSS(model(task.X), task.y).backward())
        times.append(seconds)
    model.zero_grad()
    return min(times)


def compared(model: torch.nn.Module, task: wm.Task, optimizer: Any, steps: int) -> tuple[Row, wm.Run]:
    """A prediction beside the training that it predicts."""
    run, training = timed(lambda: wm.train(model, task, optimizer, steps=steps, until=None, progress=False))
    found, seconds = timed(lambda: wm.predict(model, task, optimizer, steps=steps))
    assert run.test is not None
    assert found.test is not None
    spread = float(run.test.std())
    row = {
        "way": found.method,
        "linearizations": found.intervals,
        "distance": float((found.test - run.test).square().mean().sqrt()) / spread,
        "estimate": found.error / spread,
        "training loss": float(run.losses[-1]),
        "test accuracy": float((run.test.argmax(1) == task.y_test).double().mean()),
        "train s": training,
        "predict s": seconds,
        "predict / train": seconds / training,
    }
    return row, run


def end_to_end(name: str, width: int, norm: Any, steps: int, seeds: int) -> Row:
    def network(seed: int) -> wm.networks.ResNet:
        model = wm.networks.ResNet(3, task.outputs, width, norm=norm, seed=seed)
        if norm == "batch":
            torch.optim.swa_utils.update_bn([task.X], model)
        return model.eval()

    task = wm.data.load("cifar-10", classes=CLASSES[name], n_train=100, n_test=200, loss=LOSS)
    model = network(0)
    began = time.perf_counter()
    sgd, adam = partial(torch.optim.SGD, lr=0.01), partial(torch.optim.Adam, lr=1e-3)
    row: Row = {"classes": name, "one linearization needs": planned(model, task, sgd)}
    step = seconds_of_a_step(model, task)
    _, kernel = timed(lambda: wm.tangent_kernel(model, task.X))
    row |= {"step s": step, "kernel s": kernel, "kernel / step": kernel / step}
    row["gd"], run = compared(model, task, sgd, steps)
    row["adam"], _ = compared(model, task, adam, steps)
    explained, seconds = timed(lambda: wm.explain(run))
    total = torch.stack(list(explained.terms.values())).sum(0)
    assert run.test is not None
    row["explanation"] = {
        "terms": {term: float(values.square().mean().sqrt()) for term, values in explained.terms.items()},
        "sum is off by": float((total - run.test).abs().max()),
        "s": seconds,
    }
    both, seconds = timed(lambda: wm.compare(network, task, {"gd": sgd, "adam": adam}, seeds=seeds, steps=steps))
    row["comparison"] = {"told": str(both).splitlines()[0], "seeds": seeds, "s": seconds}
    return row | {"all s": time.perf_counter() - began, "peak GiB": peak()}


def peak() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def told(row: Row) -> str:
    lines = [
        f"classes {row['classes']}: one linearization needs {row['one linearization needs']}; "
        f"a step {row['step s']:.2f} s, the kernel {row['kernel s']:.1f} s, {row['kernel / step']:.1f} steps"
    ]
    for name in ("gd", "adam"):
        r = row[name]
        lines.append(
            f"  {name:5s} {r['way']:12s} distance {r['distance']:.1e}, estimate {r['estimate']:.1e}; "
            f"loss {r['training loss']:.2g}, test accuracy {r['test accuracy']:.2f}; "
            f"trained {r['train s']:.1f} s, predicted {r['predict s']:.1f} s"
        )
    e, c = row["explanation"], row["comparison"]
    terms = ", ".join(f"{term} {size:.2g}" for term, size in e["terms"].items())
    lines.append(f"  terms {terms}; their sum is off by {e['sum is off by']:.0e}; {e['s']:.1f} s")
    lines.append(f"  {c['told']} … {c['seeds']} seeds, {c['s']:.0f} s")
    return "\n".join([*lines, f"  all of it {row['all s']:.0f} s, {row['peak GiB']:.1f} GiB at most"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--norm", choices=("group", "batch"), default="group")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(CLASSES), default=list(CLASSES))
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.only:
        rows.append(end_to_end(name, options.width, options.norm, options.steps, options.seeds))
        print(told(rows[-1]), flush=True)
    print(store("residual" if options.norm == "group" else "residual-batch", rows, vars(options)))


if __name__ == "__main__":
    main()
