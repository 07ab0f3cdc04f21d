"""How the error of one linearization falls when it is made later: from checkpoints, against the trained end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from whichmin.checkpoint import Checkpoint, begin
from whichmin.dynamics.paths.linearized import flat
from whichmin.dynamics.paths.real import Patience
from whichmin.dynamics.prepare import prepare
from whichmin.losses import root_mean_square
from whichmin.recipe.recipe import Recipe
from whichmin.shown import Shown
from whichmin.task import Task


@dataclass(frozen=True, eq=False)
class LaterLinearizations(Shown):
    """One linearization at each of several steps T₀ of a training, run from there to its end.

    Attributes:
        steps: the T₀, ascending, (k,), int64.
        misses: root mean square distance over test points and outputs, between the linearized run from T₀ and the
            trained network, (k,), float64, in units of the outputs.
        estimates: the estimate of the same that each prediction makes without training, (k,).
        remaining: the same distance between the network's own outputs at T₀ and at the end, (k,): what there was to be
            predicted.
    """

    steps: Tensor
    misses: Tensor
    estimates: Tensor
    remaining: Tensor

    def first_within(self, distance: float) -> int | None:
        """The first of the steps from which on one linearization misses by no more than that; None if none does."""
        pairs = zip(self.steps.tolist()[::-1], self.misses.tolist()[::-1], strict=True)
        good = [step for step, _ in takewhile(lambda pair: pair[1] <= distance, pairs)]
        return good[-1] if good else None


def linearize_later(
    checkpoints: Sequence[Checkpoint],
    task: Task,
    recipe: Recipe,
    end: int,
    test: Tensor,
    rows: Sequence[Tensor] | None = None,
    patience: Patience | None = None,
) -> LaterLinearizations:
    """One linearization at each checkpoint before the end, run to the end.

    Args:
        checkpoints: of the training, with its network.
        task: its data, with test inputs.
        recipe: what trained.
        end: the step at which it ended.
        test: the trained test outputs, (N_test, C).
        rows: the rows of the data that each step used, in place of the recipe's batches.
        patience: where it is told how far each run came.

    Cost: a linearization each, and for an optimizer without a rule in function space a run on the linearized network.
    """
    found = []
    trained = flat(test)
    for checkpoint in checkpoints:
        if checkpoint.step >= end:
            continue
        model, resumed = begin(checkpoint, recipe)
        predictor = prepare(model, task, resumed, (float(end),), rows=rows, require_stable=False)
        network = predictor.network
        remaining = root_mean_square(flat(network.outputs(network.X)) - trained)
        outcome = predictor.linearized(patience)
        miss = root_mean_square(outcome.test[-1] - trained)
        found.append((checkpoint.step, miss, outcome.error, remaining))
    steps, *distances = zip(*found, strict=True) if found else ((), (), (), ())
    return LaterLinearizations(torch.tensor(steps, dtype=torch.int64), *map(_vector, distances))


def _vector(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
