"""Predicted against real retraining without some rows, on MNIST 3/8, N = 100. Needs WHICHMIN_DATA.

    python benchmarks/leave_out.py [--halves 100] [--rows 100] [--only descent wide cross-entropy adam each]
                                   [--threads 2] [--peer python]

descent        gradient descent, 784-600-600-1, mean square error to 1e-5, at 0.4 of the best rate: random halves
wide           the same, 784-4096-1
cross-entropy  gradient descent at an eighth of the sure limit, 784-600-600-2, to a loss of 1e-2
adam           Adam, lr 1e-3, full batches, 784-600-600-1, mean square error to 1e-5
each           as descent, every row alone; beside it how well retraining agrees with itself from parameters that differ
               by a rounding

Of each: the rank correlation over groups of predicted and retrained outputs, a mean over test points; the root mean
square of their difference over that of the retrained outputs' deviations from their mean over groups; the share of
groups whose estimated error is within a factor of four of the real one; seconds of a group retrained over predicted,
and the same of all groups with what the plan took. ``--peer`` names a Python with captum and whichmin, whose sums of
influences (``TracInCP``, five checkpoints along training, and the last alone) are ranked against the same retraining.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _environment import store
from scipy.stats import spearmanr

import whichmin as wm
from whichmin.studies.leaving_out.groups import read_groups

O = torch.optim  # noqa: E741
Row = dict[str, Any]
PEER = Path(__file__).resolve().parent / "peers" / "influence.py"
#: A rounding of single precision.
ROUNDING = 1e-7


def descent(share: float, model: torch.nn.Module, task: wm.Task) -> Callable[..., Any]:
    spectrum = wm.spectrum(wm.tangent_kernel(model, task.X))
    if task.loss.is_quadratic:
        return partial(O.SGD, lr=share * spectrum.best_lr)
    return partial(O.SGD, lr=share * 2.0 / (task.objective.gamma * float(spectrum.eigenvalues[0])))


def retrained(model: torch.nn.Module, task: wm.Task, optimizer: Any, groups: list[Any], until: float) -> Any:
    """Margins (groups, n_test) of networks that were really trained on the rest, and the seconds."""
    outputs, began = [], time.perf_counter()
    for group in groups:
        run = wm.train(model, task.without(group), optimizer, until=until)
        assert run.test is not None
        outputs.append(margin(run.test))
    return torch.stack(outputs), (time.perf_counter() - began) / len(groups)


def margin(test: torch.Tensor) -> torch.Tensor:
    return (test[..., 0] if test.shape[-1] == 1 else test[..., 1] - test[..., 0]).double()


def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean over test points of the rank correlation over groups."""
    columns = [spearmanr(one[:, j], other[:, j]).statistic for j in range(one.shape[1])]
    return float(torch.tensor(columns).nanmean())


def measured(name: str, hidden: list[int], make: Any, until: float, groups: Any, loss: Any, peer: str | None) -> Row:
    task = wm.data.load("mnist", classes=(3, 8), n_train=100, n_test=100, **({} if loss is None else {"loss": loss}))
    model = wm.networks.MLP([784, *hidden, task.outputs], seed=0)
    optimizer, chosen = make(model, task), read_groups(groups, task)
    began = time.perf_counter()
    found = wm.leave_out(model, task, optimizer, chosen, until=until)
    seconds = time.perf_counter() - began
    real, each = retrained(model, task, optimizer, chosen, until)
    guess = margin(found.test)
    off = (guess - real).square().mean(1).sqrt()
    estimates = found.error * (2**0.5 if found.test.shape[-1] > 1 else 1.0)
    honest = ((estimates < 4 * off) & (off < 4 * estimates)).double().mean()
    row: Row = {
        "problem": name,
        "hidden": hidden,
        "groups": len(chosen),
        "until": until,
        "methods": counts(found.method),
    }
    row |= {"rank correlation": agreement(guess, real), "retraining, s": each, "predicting, s": seconds / len(chosen)}
    row |= {"faster": each * len(chosen) / seconds, "within 4": float(honest)}
    row["relative error"] = float(off.square().mean().sqrt() / real.std(0).square().mean().sqrt())
    if groups == "each":
        row["retraining twice"] = agreement(retrained(rounded(model), task, optimizer, chosen, until)[0], real)
    if peer is not None and loss is None:
        row["influences"] = influences(peer, model, task, optimizer, chosen, until, real)
    return row


def counts(methods: tuple[str, ...]) -> dict[str, int]:
    return {method: methods.count(method) for method in sorted(set(methods))}


def rounded(model: torch.nn.Module) -> torch.nn.Module:
    """The network with every parameter a rounding away."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(1)
    for p in other.parameters():
        p.data.mul_(1 + ROUNDING * torch.randn(p.shape, generator=generator))
    return other


def influences(
    python: str, model: Any, task: wm.Task, optimizer: Any, groups: list[Any], until: float, real: Any
) -> Row:
    """Rank correlations of the sums of a public library's influences, by method."""
    run = wm.train(model, task, optimizer, until=until)
    middle = [wm.train(model, task, optimizer, until=None, steps=k * run.steps // 4) for k in (1, 2, 3)]
    states = [run.initial, *(part.final for part in middle), run.final]
    with tempfile.TemporaryDirectory() as folder:
        data = {"model": model, "X": task.X, "y": task.y, "X_test": task.X_test, "states": states}
        torch.save(data, Path(folder) / "asked.pt")
        subprocess.run([python, str(PEER), folder], check=True)
        told = torch.load(Path(folder) / "told.pt")
    out = torch.zeros(len(groups), task.n, dtype=torch.float64)
    for i, group in enumerate(groups):
        out[i, list(group)] = 1.0
    return {name: agreement(out @ scores.double().mT, real) for name, scores in told.items()}


def rows(options: argparse.Namespace) -> Iterator[Row]:
    halves, every = options.halves, "each" if options.rows >= 100 else list(range(options.rows))
    first, adam = partial(descent, 0.4), lambda model, task: partial(O.Adam, lr=1e-3)
    problems = {
        "descent": ([600, 600], first, 1e-5, halves, None),
        "wide": ([4096], first, 1e-5, halves, None),
        "cross-entropy": ([600, 600], partial(descent, 0.125), 1e-2, halves, torch.nn.CrossEntropyLoss()),
        "adam": ([600, 600], adam, 1e-5, halves, None),
        "each": ([600, 600], first, 1e-5, every, None),
    }
    for name in options.only:
        yield measured(name, *problems[name], options.peer)


def line(row: Row) -> str:
    cells = [row["problem"], row["groups"], row["methods"], f"{row['rank correlation']:.4f}"]
    cells += [f"{row['relative error']:.1%}", f"{row['within 4']:.0%}", f"{row['retraining, s']:.2f}"]
    cells += [f"{row['predicting, s']:.3f}", f"{row['faster']:.0f} ×"]
    cells += [f"{row['retraining twice']:.4f}" if "retraining twice" in row else "", row.get("influences", "")]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halves", type=int, default=100)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--only", nargs="+", default=["descent", "wide", "cross-entropy", "adam", "each"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| problem | groups | by | rank | error | within 4 | retraining, s | predicting, s | faster | twice | peer |")
    print("|" + "---|" * 11)
    found = []
    for row in rows(options):
        found.append(row)
        print(line(row), flush=True)
        store("leave_out", found, vars(options))


if __name__ == "__main__":
    main()
