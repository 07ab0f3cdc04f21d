"""The answer, seed by seed: predicted by one linearization, predicted along the path, trained, explained."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from whichmin.decomposition.explain import explain
from whichmin.dynamics.predict import predict
from whichmin.experiment.build import build_network, build_task
from whichmin.experiment.config import Experiment
from whichmin.experiment.kept import fingerprint, load_entry, prepare, save_entry
from whichmin.report.entry import Entry
from whichmin.task import Task
from whichmin.training.train import train

_DELAY = 2.0


def run(experiment: Experiment, *, out: str | Path | None = None, progress: bool = False) -> list[Entry]:
    """All seeds of an experiment: the list of what :func:`iterate` yields."""
    return list(iterate(experiment, out=out, progress=progress))


def iterate(experiment: Experiment, *, out: str | Path | None = None, progress: bool = False) -> Iterator[Entry]:
    """Answer an experiment one seed at a time, keeping each on disk as soon as it is finished.

    Args:
        experiment: what is asked.
        out: a folder; ``runs`` within it keeps finished seeds, and seeds that it has already are read from there. None
            keeps nothing.
        progress: whether to show bars on standard error for what takes longer than two seconds.

    Yields:
        An entry per seed, in order.

    Raises:
        OutputError: ``out`` cannot be written to; nothing has been computed then.
        InputError: what is asked cannot be done; see the verbs for which.
        TrainingError: training met a number that is not finite.
    """
    runs = None if out is None else prepare(Path(out))
    task = build_task(experiment)
    with tqdm(total=experiment.seeds, unit="seed", delay=_DELAY, leave=False, disable=not progress) as bar:
        for seed in range(experiment.seeds):
            yield _seed(experiment, task, seed, runs, bar)
            bar.update()


def _seed(experiment: Experiment, task: Task, seed: int, runs: Path | None, bar: tqdm) -> Entry:
    """One seed, from disk if it is there."""
    model, label = build_network(experiment, task, seed), f"seed {seed}"
    if runs is None:
        return _answer(experiment, task, model, label, bar)
    path = runs / fingerprint(experiment, task, model, seed)
    entry = load_entry(path, label)
    if entry is None:
        entry = _answer(experiment, task, model, label, bar)
        save_entry(entry, path, experiment.to_dict() | {"seed": seed})
    return entry


def _stage(bar: tqdm, text: str) -> None:
    bar.set_description(text, refresh=not bar.disable and bar.format_dict["elapsed"] > _DELAY)


def _answer(experiment: Experiment, task: Task, model: nn.Module, label: str, bar: tqdm) -> Entry:
    steps, until = experiment.max_steps, experiment.until
    reach = {"until": until} if steps is None else {"until": until, "steps": steps}
    ask = partial(predict, model, task, tol=experiment.tol, **reach)
    lr: Any = experiment.lr
    _stage(bar, f"{label}: predicting")
    lazy = ask(partial(torch.optim.SGD, lr=lr), relinearize="never")
    sgd = partial(torch.optim.SGD, lr=lazy.learning_rate)
    if not experiment.train:
        explanation = explain(model, task, sgd, trained=False, until=until, max_steps=steps, tol=experiment.tol)
        return Entry(label, lazy=lazy, followed=explanation.followed, explanation=explanation)
    followed = ask(sgd, relinearize="auto")
    _stage(bar, f"{label}: training")
    trained = train(model, task, sgd, until=until, max_steps=steps, progress=not bar.disable)
    if trained.reason.startswith("interrupted"):
        raise KeyboardInterrupt
    _stage(bar, f"{label}: explaining")
    return Entry(label, lazy=lazy, followed=followed, run=trained, explanation=explain(trained))
