"""``mitigate``: which remedy brings a better minimizer, before it is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from torch import nn

from whichmin.errors import InputError, WhichminError
from whichmin.jobs.progress import progress_bar
from whichmin.mitigation.as_it_is import NAME
from whichmin.mitigation.method import Method
from whichmin.mitigation.mitigation import Mitigation, recommended, state_of
from whichmin.mitigation.outcome import Outcome, Remedy, title_of
from whichmin.mitigation.registry import chosen_methods
from whichmin.mitigation.validation import split
from whichmin.mitigation.work import Aim, Work
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.context import own_context
from whichmin.task import Task, Until
from whichmin.training.train import check_budget

TRAIN = ("best", "all", "none")


@own_context()
def mitigate(
    model: nn.Module,
    task: Task,
    optimizer: OptimizerFactory | Recipe,
    *,
    validation: Task | tuple[Any, Any] | float = 0.2,
    methods: str | Sequence[str | Method] = "all",
    train: Literal["best", "all", "none"] | Sequence[str] = "best",
    until: Until = "auto",
    steps: int | None = None,
    tol: float = 2e-2,
    level: float = 0.05,
    batch_size: int | None = None,
    seed: int = 0,
    scheduler: SchedulerFactory | None = None,
    budget: float | None = None,
    progress: bool = False,
) -> Mitigation:
    """Which remedy takes away what the initialization leaves in the trained network, and what each would bring.

    A wide network ends at f_∞(x') = K(x',X)K⁺Y + [f₀(x') − K(x',X)K⁺f₀(X)]: the interpolator of the data, and a rest of
    the initialization that training cannot see, which scales as α^L with the scale α of its L layers. Every method is
    predicted by :func:`whichmin.predict`, its validation loss is compared with that of the network as it is, and the
    one of the lowest loss is trained.

    =================  =========================================================================================
    as_it_is           the network as it is
    scale_search       smaller and smaller scales of every layer, while the validation loss falls significantly
    antisymmetric      (f_θ − f_θ')/√2, two copies that cancel at the start
    centered           f_θ − f_θ₀
    subtract           the trained network less its initialization term
    zero_last_layer    the network with a last layer of zeros
    ensemble           the mean over five initializations
    jump               the network as it is, from its predicted parameters on: the same minimizer, sooner
    =================  =========================================================================================

    A remedy is recommended where its gain, the fall of the predicted validation loss, is significant in a paired test
    over validation points and larger than what the two predictions may be off by. Otherwise ``best`` is ``as_it_is``.

    Args:
        model: the network before training; it is not changed.
        task: the data and the loss; with test points, which choose nothing, the result has the losses there.
        optimizer: a factory or a :class:`whichmin.Recipe`, as for :func:`whichmin.train`.
        validation: the points by which a remedy is chosen: a task (its X and y), a pair (X, y), or a share of the
            training rows, which are held out of training then.
        methods: "all", or some by name, or as methods with settings of their own, such as
            ``whichmin.mitigation.ScaleSearch(shrink=0.7)``.
        train: what is trained: the best remedy, all of them (``scale_search`` at every scale), none, or some by name
            (``scale_search`` at its choice).
        until: as for ``train``.
        steps: as for ``train``; a scale at which training takes more is too slow. Unless told it is 100,000, and
            training that stalls above ``until`` ends before.
        tol: of the predictions, as for :func:`whichmin.predict`; the default costs about half of ``predict``'s own.
        level: of the paired tests.
        batch_size: as for ``train``.
        seed: of the order of the batches, and of the draw of held-out rows.
        scheduler: as for ``train``.
        budget: the seconds that all of it may take; what is finished by then is kept, and the rest left out.
        progress: show a bar on standard error if it takes longer than two seconds.

    Returns:
        A :class:`Mitigation`: a table of all methods, ``best``, ``model()``, a report. A method that fails has the
        reason in its row. Ctrl-C keeps what is finished.

    Cost: a prediction for each method, of ``scale_search`` one for each scale and of ``ensemble`` one for each member,
    and the training of the best.

    Raises:
        InputError: methods, a validation set, a level, a budget or scales that cannot be used; training without end.
        DataError: validation rows that are training rows; says which.
        WhichminError: what :func:`whichmin.predict` and :func:`whichmin.train` say of the network as it is.

    Nonnenmacher, Reeb, Steinwart, "Which Minimizer Does My Neural Network Converge To?" (2020), section 3.
    """
    started = time.perf_counter()
    _check_level(level)
    check_budget(budget)
    recipe = Recipe.of(optimizer, batch_size, seed, scheduler)
    tried = chosen_methods(methods)
    trained = _check_train(train, tried)
    parts = split(task, validation, seed)
    recipe.check(parts.task.n)
    until = parts.task.aim(until)
    _check_end(until, steps)
    work = Work(model, parts, recipe, Aim(until, steps, tol, level), math.inf if budget is None else budget)
    remedies, interrupted = _tried(work, tried, trained, progress)
    asked = {"until": until, "steps": steps, "tol": tol, "budget": budget, "train": trained}
    return _package(work, tuple(remedies), interrupted, time.perf_counter() - started, asked)


def _check_train(train: Any, methods: tuple[Method, ...]) -> str | tuple[str, ...]:
    """What is trained: one of the words, or the names of methods that are tried.

    Raises:
        InputError: neither.
    """
    if isinstance(train, str) and train in TRAIN:
        return train
    names = [method.name for method in methods]
    wanted = tuple(train) if isinstance(train, list | tuple) else (train,)
    if not wanted or any(name not in names for name in wanted):
        raise InputError(
            f"train is {train!r}; expected {', '.join(map(repr, TRAIN))}, or some of the methods that are tried: "
            f"{', '.join(names)}."
        )
    return wanted


def _check_level(level: Any) -> None:
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise InputError(f"level is {level!r}; expected a number between 0 and 1, such as 0.05.")


def _check_end(until: float | None, steps: int | None) -> None:
    if until is None and steps is None:
        raise InputError("until and steps are both None, so training would have no end: pass one of them.")


def _tried(
    work: Work, methods: tuple[Method, ...], train: str | tuple[str, ...], progress: bool
) -> tuple[list[Remedy], bool]:
    """All methods predicted, and trained as is asked; and whether Ctrl-C ended that."""
    remedies: list[Remedy] = []
    with progress_bar(len(methods), "method", progress) as bar:
        try:
            for method in methods:
                bar.set_description(f"predicting {method.name}")
                remedies.append(_attempted(partial(_predicted, method), work, method.remedy(work)))
                bar.update()
            wanted = _wanted(work, methods, remedies, train)
            bar.total += len(wanted)
            for i in wanted:
                bar.set_description(f"training {methods[i].name}")
                attempt = partial(methods[i].train, remedy=remedies[i], every=train == "all")
                remedies[i] = _attempted(attempt, work, remedies[i])
                bar.update()
        except KeyboardInterrupt:
            if not remedies:
                raise
            return remedies, True
    return remedies, False


def _wanted(work: Work, methods: tuple[Method, ...], remedies: list[Remedy], train: str | tuple[str, ...]) -> list[int]:
    """The numbers of the methods that are trained, of those that could be predicted."""
    if train == "best":
        train = (recommended(work.split.validation, tuple(remedies), work.aim.level),)
    return [
        i
        for i, method in enumerate(methods)
        if remedies[i].predicted is not None and (train == "all" or method.name in train)
    ]


def _predicted(method: Method, work: Work) -> Remedy:
    """What a method brings, where the loss has a meaning for it."""
    method.check_loss(work.task.loss)
    return method.predict(work)


def _attempted(attempt: Callable[[Work], Remedy], work: Work, before: Remedy) -> Remedy:
    """What an attempt gives; the row before it with the reason where it fails, unless nothing can be told then.

    Raises:
        WhichminError: the network as it is cannot be predicted.
    """
    try:
        return attempt(work)
    except WhichminError as error:
        if before.name == NAME and before.predicted is None:
            raise
        return replace(before, failure=str(error))


def _package(
    work: Work, remedies: tuple[Remedy, ...], interrupted: bool, seconds: float, asked: dict[str, Any]
) -> Mitigation:
    best = recommended(work.split.validation, remedies, work.aim.level)
    outcome = next(remedy.outcome for remedy in remedies if remedy.name == best)
    network = None if outcome is None else outcome.network
    notes = _notes(remedies)
    if interrupted:
        notes = (*notes, "interrupted: what was finished by then is here.")
    return Mitigation(
        work.split.task, work.split.validation, tuple(map(_light, remedies)), work.interpolant, best, work.aim.level,
        seconds, work.seconds_per_step, work.split.held_out, interrupted, notes, asked, state_of(network), network,
    )  # fmt: skip


def _notes(remedies: tuple[Remedy, ...]) -> tuple[str, ...]:
    """The remarks of all outcomes, each once, with the methods that it is about."""
    about: dict[str, dict[str, None]] = {}
    for remedy in remedies:
        for kind, part in (("predicted", remedy.predicted), ("trained", remedy.trained)):
            for note in () if part is None else part.notes:
                about.setdefault(f"{kind}: {note}", {})[remedy.name] = None
    return tuple(f"{', '.join(map(title_of, names))}, {note}" for note, names in about.items())


def _light(remedy: Remedy) -> Remedy:
    """Without networks: the result keeps the best one alone."""

    def without(outcome: Outcome | None) -> Outcome | None:
        return None if outcome is None else replace(outcome, network=None)

    return replace(remedy, predicted=without(remedy.predicted), trained=without(remedy.trained))
