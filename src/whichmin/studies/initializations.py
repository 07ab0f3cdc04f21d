"""Networks by seed: what a factory draws, and whether it draws different ones."""

from __future__ import annotations

import math
import operator
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from whichmin.checkpoint import Checkpoint, network_of
from whichmin.devices import callers_default_device
from whichmin.errors import InputError, ModelError
from whichmin.recipe.describe import digest
from whichmin.task import Task

#: Up to so many multiplications in a pass over the data threads gain nothing.
SMALL = 2**23
#: A network as it was drawn, or a checkpoint of its training, which goes on from there.
Initialization = nn.Module | Checkpoint
ModelFactory = Callable[[int], Initialization]

_WANTED = "expected a function of the seed, such as lambda seed: whichmin.networks.MLP((64, 512, 1), seed=seed)"


def check_seeds(seeds: Any) -> tuple[int, ...]:
    """The numbers of the initializations, two at least.

    Args:
        seeds: how many, 0, 1, …; or their numbers.

    Raises:
        InputError: it is neither, less than two, or has a number twice.
    """
    wanted = "expected a whole number of initializations, 2 or more, or a list of their numbers"
    try:
        listed = seeds if isinstance(seeds, Sequence) else range(operator.index(seeds))
        numbers = tuple(map(operator.index, listed))
    except TypeError as error:
        raise InputError(f"seeds is {seeds!r}; {wanted}.") from error
    if min(numbers, default=0) < 0 or len(set(numbers)) < len(numbers):
        raise InputError(f"seeds is {seeds!r}; {wanted}, each 0 or more and different.")
    if len(numbers) < 2:
        raise InputError(
            f"seeds is {seeds!r}: a single seed where their differences are asked for; {wanted}. whichmin.predict does "
            "one."
        )
    return numbers


def check_test(task: Task) -> None:
    """Raises InputError where there are no test inputs."""
    if task.X_test is None:
        raise InputError(
            "this task has no test inputs, and minimizers differ there only: pass Task(X, y, X_test), with y_test if "
            "the test error is to be known."
        )


def check_steps(steps: Any) -> None:
    """Raises InputError where it is no single number of steps, nor None."""
    is_number = isinstance(steps, int | float) and not isinstance(steps, bool)
    if steps is not None and not (is_number and steps >= 0 and (math.isinf(steps) or steps == int(steps))):
        raise InputError(f"steps is {steps!r}; expected a whole number of steps, or None.")


def initializations(factory: ModelFactory, seeds: Sequence[int]) -> Iterator[Initialization]:
    """The networks, or checkpoints, of some seeds, drawn one at a time.

    torch's global generator is seeded as well, and put back, so that ``lambda seed: Network()`` of layers that draw
    from it is a function of the seed too.

    Raises:
        ModelError: no factory, one that fails, returns one object twice, or draws the same parameters for two seeds.
    """
    if isinstance(factory, nn.Module) or not callable(factory):
        got = f"a network, {type(factory).__name__}" if isinstance(factory, nn.Module) else repr(factory)
        raise ModelError(f"got {got}, where a factory of networks is needed; {_WANTED}.")
    drawn: weakref.WeakSet[Initialization] = weakref.WeakSet()
    drawn_by: dict[str, int] = {}
    for seed in seeds:
        model = _draw(factory, seed)
        if model in drawn:
            raise ModelError(
                f"the factory returned the same object again for seed {seed}: each seed needs a network of its own; "
                f"{_WANTED}."
            )
        drawn.add(model)
        mark = fingerprint(network_of(model))
        if mark in drawn_by:
            raise ModelError(
                f"the factory drew the same parameters for seeds {drawn_by[mark]} and {seed}: it ignores its seed; "
                f"{_WANTED}."
            )
        drawn_by[mark] = seed
        yield model


def fingerprint(model: nn.Module) -> str:
    """A hash of the parameters and buffers, and of the network's printed form."""
    state = model.state_dict()
    return digest(list(state.values()), repr(model), *state)


def _draw(factory: ModelFactory, seed: int) -> Initialization:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            with callers_default_device():
                model = factory(seed)
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"the factory failed for seed {seed}: {error}. It is called with the seed; {_WANTED}."
            ) from (error)
    if not isinstance(model, nn.Module | Checkpoint):
        raise ModelError(f"the factory returned a {type(model).__name__} for seed {seed}; {_WANTED}.")
    return model


@contextmanager
def few_threads(model: nn.Module, task: Task) -> Iterator[None]:
    """One thread for a network so small that several of them only wait for each other; as many as before afterwards."""
    before = torch.get_num_threads()
    if task.n * sum(p.numel() for p in model.parameters()) <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
