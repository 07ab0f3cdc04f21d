"""Cross-entropy: predicted against trained networks on MNIST, N = 100. Needs WHICHMIN_DATA.

    python benchmarks/cross_entropy.py [--width 1024] [--wide 4096] [--only descent adam batches peer] [--threads 2]

descent   gradient descent at an eighth of the sure limit 2/(γ λ_max): classes 0/1, 3/8 and all ten, to a loss of 1e-2
adam      Adam, lr 1e-3, full batches: 3/8 and all ten classes to a loss of 1e-2, and 2,000 steps at the greater width
batches   momentum .9 in batches of 20: 3/8 and all ten classes, at the greater width
peer      one linearization of gradient flow beside neural-tangents' in double precision, the time of as many steps; by
          --peer-jax or WHICHMIN_PEER_JAX (benchmarks/README.md says how); stored as cross_entropy-peer.json

The distance is the root mean square of the differences of test outputs, over the standard deviation of the trained
network's; ``labels`` counts test points of other labels; ``faster`` is the time of a plain loop of
torch over the prediction's, and ``faster than ours`` that of ``whichmin.train``; each is timed in this run, after a
small prediction that loads what is loaded late. ``path`` is the same of a path that is forced.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _environment import store

import whichmin as wm

O = torch.optim  # noqa: E741
LOSS = torch.nn.CrossEntropyLoss()
TEN = tuple(range(10))
PEER = Path(__file__).parent / "peers" / "cross_entropy_nt.py"
#: The time of so many steps of gradient descent, with which the training loss comes to about 1e-2.
FLOW = {2: 1_000, 10: 8_000}
Row = dict[str, Any]


def problem(classes: tuple[int, ...], width: int) -> tuple[wm.networks.MLP, wm.Task]:
    task = wm.data.load("mnist", classes=classes, n_train=100, n_test=200, loss=LOSS)
    return wm.networks.MLP([784, width, task.outputs], seed=0), task


def descent(model: torch.nn.Module, task: wm.Task, share: float, **settings: Any) -> Callable[..., Any]:
    largest = float(wm.spectrum(wm.tangent_kernel(model, task.X)).eigenvalues[0])
    return partial(O.SGD, lr=share * 2.0 / (task.objective.gamma * largest), **settings)


def plain_seconds(model: torch.nn.Module, task: wm.Task, recipe: wm.Recipe, steps: int, until: float | None) -> float:
    """What a plain loop of torch takes: the loss of all rows is looked at where training ends at one."""
    network = copy.deepcopy(model)
    optimizer = recipe.build(list(network.parameters()))
    batches = recipe.batches(task.n)
    started = time.perf_counter()
    for _ in range(steps):
        rows = slice(None) if batches is None else next(batches)
        optimizer.zero_grad()
        loss = task.loss(network(task.X[rows]), task.y[rows])
        if until is not None and loss.item() < until:
            break
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


def measured(name: str, classes: tuple[int, ...], width: int, make: Callable[..., Any], **asked: Any) -> Row:
    model, task = problem(classes, width)
    optimizer = make(model, task)
    run = wm.train(model, task, optimizer, **{"until": None} | asked)
    assert run.test is not None
    recipe = wm.Recipe(optimizer, batch_size=asked.get("batch_size"))
    plain = plain_seconds(model, task, recipe, run.steps, asked.get("until"))
    row: Row = {"optimizer": name, "classes": len(classes), "of": "/".join(map(str, classes)), "width": width}
    row |= {"steps": run.steps, "loss": float(run.losses[-1]), "training, s": plain, "ours, s": run.seconds}
    for way in ("auto", "path"):
        began = time.perf_counter()
        found = wm.predict(model, task, optimizer, relinearize=way, **asked)
        seconds = time.perf_counter() - began
        assert found.test is not None
        apart = float((found.test - run.test).double().square().mean().sqrt())
        row[way] = {
            "method": found.method,
            "intervals": found.intervals,
            "steps": float(found.steps),
            "distance": apart / float(run.test.double().std()),
            "estimate": found.error / float(run.test.double().std()),
            "labels": int((found.test.argmax(-1) != run.test.argmax(-1)).sum()),
            "seconds": seconds,
            "faster": plain / seconds,
            "faster than ours": run.seconds / seconds,
        }
    return row


def rows(width: int, wide: int, only: list[str]) -> Iterator[Row]:
    if "descent" in only:
        for classes in ((0, 1), (3, 8), TEN):
            yield measured("gradient descent", classes, width, partial(descent, share=0.125), until=1e-2)
    if "adam" in only:
        adam = lambda model, task: partial(O.Adam, lr=1e-3)  # noqa: E731
        for classes in ((3, 8), TEN):
            yield measured("Adam", classes, width, adam, until=1e-2)
            yield measured("Adam", classes, wide, adam, steps=2_000)
    if "batches" in only:
        momentum = partial(descent, share=0.1, momentum=0.9)
        for classes in ((3, 8), TEN):
            yield measured("momentum, 20 rows", classes, wide, momentum, until=1e-2, batch_size=20)


def beside_peer(classes: tuple[int, ...], width: int, options: argparse.Namespace) -> Row:
    """Test outputs of gradient flow by both, seconds of the second run of each, and how far apart they are."""
    model, task = problem(classes, width)
    model, task = model.double(), task.to(torch.float64)
    assert task.X_test is not None
    optimizer, steps = descent(model, task, share=0.125), FLOW[len(classes)]
    layers = list(model.layers)
    arrays = {f"w{i}": layer.weight.detach().numpy() for i, layer in enumerate(layers)}
    arrays |= {"factors": np.array([layer.before * layer.after for layer in layers])}
    targets = torch.nn.functional.one_hot(task.y, task.outputs).double()
    arrays |= {"X": task.X.numpy(), "y": targets.numpy(), "X_test": task.X_test.numpy()}
    for _ in range(2):
        start = time.perf_counter()
        found = wm.predict(model, task, optimizer, steps=steps, flow=True, relinearize="never")
        seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/problem.npz", lr=optimizer.keywords["lr"], **arrays)
        threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        run = [options.peer_jax, str(PEER), folder, str(steps)]
        done = subprocess.run(run, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
        if done.returncode:
            raise ChildProcessError(f"neural-tangents ended with exit code {done.returncode}")
        told = json.loads(done.stdout.splitlines()[-1])
        theirs = torch.from_numpy(np.load(f"{folder}/theirs.npy"))
    assert found.test is not None
    apart = float((found.test - theirs).square().mean().sqrt() / found.test.std())
    loss = float(LOSS(found.train, task.y))
    row: Row = {"of": "/".join(map(str, classes)), "width": width, "steps": steps, "loss": loss, "apart": apart}
    return row | {"whichmin, s": seconds, "neural-tangents, s": told["seconds"], "version": told["version"]}


def line(row: Row) -> str:
    cells = [row["optimizer"], row["of"] if row["classes"] < 10 else "ten", row["width"], f"{row['steps']:,}"]
    cells.append(f"{row['training, s']:.1f}")
    for way in ("auto", "path"):
        p = row[way]
        cells += [p["method"] if way == "auto" else p["intervals"], f"{p['steps']:,.0f}", f"{p['distance']:.2%}"]
        cells += [f"{p['estimate']:.2%}", p["labels"], f"{p['faster']:.1f}", f"{p['faster than ours']:.1f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--wide", type=int, default=4096)
    parser.add_argument("--only", nargs="+", default=["descent", "adam", "batches", "peer"])
    parser.add_argument("--peer-jax", default=os.environ.get("WHICHMIN_PEER_JAX"), help="a Python with neural-tangents")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    told = {name: value for name, value in vars(options).items() if name != "peer_jax"}
    if "peer" in options.only and not options.peer_jax:
        print("peer: no Python with neural-tangents, left out", file=sys.stderr)
    elif "peer" in options.only:
        rows_of_both = [beside_peer(classes, options.width, options) for classes in ((0, 1), (3, 8), TEN)]
        print(*rows_of_both, sep="\n", flush=True)
        store("cross_entropy-peer", rows_of_both, told)
    if options.only == ["peer"]:
        return
    way = "steps | distance | estimate | labels | faster | than ours"
    print(f"| optimizer | classes | width | steps | training, s | auto | {way} | path | {way} |")
    print("|" + "---|" * 19)
    warm, few = problem((0, 1), 32)
    wm.predict(warm, few, partial(O.SGD, lr=0.1), steps=20, relinearize="path")
    found = []
    for row in rows(options.width, options.wide, options.only):
        found.append(row)
        print(line(row), flush=True)
    store("cross_entropy", found, told)


if __name__ == "__main__":
    main()
