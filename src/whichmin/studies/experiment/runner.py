"""The answer, optimizer by optimizer and seed by seed: predicted along the path, trained, explained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from whichmin.decomposition.explain import explain
from whichmin.dynamics.predict import predict
from whichmin.errors import WhichminError
from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.entry import Entry
from whichmin.studies.experiment.kept import fingerprint, load_entry, prepare, save_entry
from whichmin.studies.experiment.optimizers import labels
from whichmin.task import Task
from whichmin.training.train import train

_DELAY = 2.0


def run(experiment: Experiment, *, out: str | Path | None = None, progress: bool = False) -> list[Entry]:
    """All seeds of an experiment: the list of what :func:`iterate` yields."""
    return list(iterate(experiment, out=out, progress=progress))


def iterate(experiment: Experiment, *, out: str | Path | None = None, progress: bool = False) -> Iterator[Entry]:
    """Answer an experiment one optimizer and seed at a time, keeping each on disk as soon as it is finished.

    Args:
        experiment: what is asked.
        out: a folder; ``runs`` within it keeps what is finished, by optimizer and seed, and what it has already is read
            from there. None keeps nothing.
        progress: whether to show bars on standard error for what takes longer than two seconds.

    Yields:
        An entry per optimizer and seed, in order. One that fails has its ``failure`` and nothing else, and is not kept.

    Raises:
        OutputError: ``out`` cannot be written to; nothing has been computed then.
        ConfigError: data, network or optimizers that cannot be had.
        WhichminError: the first failure, after all entries, if there is nothing but failures.
    """
    runs = None if out is None else prepare(Path(out))
    for choice in experiment.optimizer:
        build_optimizer(choice)
    task = build_task(experiment)
    names = labels(experiment.optimizer)
    total, failures = len(names) * experiment.seeds, []
    with tqdm(
        total=total, unit="seed" if len(names) == 1 else "run", delay=_DELAY, leave=False, disable=not progress
    ) as bar:
        for choice, name in zip(experiment.optimizer, names, strict=True):
            for seed in range(experiment.seeds):
                member = f"seed {seed}"
                label = member if len(names) == 1 else f"{name}, {member}"
                entry = _entry(
                    experiment.of(choice), task, seed, runs, Entry(label, optimizer=name, member=member), bar
                )
                yield entry
                bar.update()
                failures += [entry.failure] if entry.failure is not None else []
    if len(failures) == total:
        raise failures[0]


def _entry(experiment: Experiment, task: Task, seed: int, runs: Path | None, blank: Entry, bar: tqdm) -> Entry:
    """One optimizer and seed, from disk if it is there."""
    model = build_network(experiment, task, seed)
    path = None if runs is None else runs / fingerprint(experiment, task, model, seed)
    kept = None if path is None else load_entry(path, blank.label, blank.optimizer, blank.member)
    if kept is not None:
        return kept
    try:
        entry = replace(blank, **_answer(experiment, task, model, blank.label, bar))
    except WhichminError as error:
        return replace(blank, task=task, failure=error)
    if path is not None:
        save_entry(entry, path, experiment.to_dict() | {"seed": seed})
    return entry


def _stage(bar: tqdm, text: str) -> None:
    bar.set_description(text, refresh=not bar.disable and bar.format_dict["elapsed"] > _DELAY)


def _answer(experiment: Experiment, task: Task, model: nn.Module, label: str, bar: tqdm) -> dict[str, Any]:
    """The parts of an entry.

    One linearization is asked for separately only where it is a formula; elsewhere it costs about as much as training,
    and the one that the explanation makes anyway, of as many steps as training took, is taken.
    """
    (choice,) = experiment.optimizer
    steps, until, tol = experiment.max_steps, experiment.until, experiment.tol
    course: dict[str, Any] = {"batch_size": experiment.batch_size, "seed": experiment.batch_seed}
    reach = {"until": until} if steps is None else {"until": until, "steps": steps}
    ask = partial(predict, model, task, tol=tol, **reach, **course)
    _stage(bar, f"{label}: predicting")
    linearized = None
    if choice.linear and experiment.batch_size is None:
        linearized = ask(build_optimizer(choice), relinearize="never")
        choice = replace(choice, lr=linearized.learning_rate)
    if not experiment.train:
        explanation = explain(
            model, task, build_optimizer(choice), trained=False, until=until, max_steps=steps, tol=tol, **course
        )
        return {
            "linearized": linearized or explanation.prediction,
            "relinearized": explanation.relinearized,
            "explanation": explanation,
        }
    relinearized = ask(build_optimizer(choice), relinearize="auto")
    if choice.lr == "best":
        choice = replace(choice, lr=relinearized.learning_rate)
    _stage(bar, f"{label}: training")
    trained = train(
        model, task, build_optimizer(choice), until=until, max_steps=steps, progress=not bar.disable, **course
    )
    if trained.reason.startswith("interrupted"):
        raise KeyboardInterrupt
    _stage(bar, f"{label}: explaining")
    explanation = explain(trained)
    return {
        "linearized": linearized or explanation.prediction,
        "relinearized": relinearized,
        "run": trained,
        "explanation": explanation,
    }
