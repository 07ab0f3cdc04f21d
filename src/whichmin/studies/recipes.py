"""What is compared: recipes by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from whichmin.errors import InputError
from whichmin.recipe.build import OptimizerFactory, check_optimizer
from whichmin.recipe.recipe import Recipe
from whichmin.tangent.model import trainable
from whichmin.task import Task

Recipes = Mapping[str, Recipe | OptimizerFactory] | Sequence[tuple[str, Recipe | OptimizerFactory]]


def check_recipes(recipes: Recipes, task: Task, model: nn.Module, least: int = 2) -> dict[str, Recipe]:
    """The recipes by name, each tried on a network.

    Args:
        recipes: as they were passed.
        task: the data.
        model: the network.
        least: how many there have to be.

    Raises:
        InputError: fewer than that, a name that comes twice or is no text, a batch size or seed that cannot be used.
        OptimizerError: a factory that fails; the message names the recipe.
    """
    named = _named(recipes, least)
    parameters = trainable(model)
    for name, recipe in named.items():
        try:
            recipe.check(task.n)
            settled = recipe.with_learning_rate(1e-3) if recipe.names_rate else recipe
            optimizer = settled.build(parameters.values())
            check_optimizer(optimizer, parameters)
            settled.build_scheduler(optimizer)
        except InputError as error:
            error.args = (f"recipe {name!r}: {error}", *error.args[1:])
            raise
    return named


def _named(recipes: Recipes, least: int) -> dict[str, Recipe]:
    wanted = 'expected a dict such as {"gd": partial(torch.optim.SGD, lr=0.1), "adam": …}, or (name, recipe) pairs'
    if not isinstance(recipes, Mapping | Sequence) or isinstance(recipes, str):
        raise InputError(f"the recipes are {recipes!r}; {wanted}.")
    pairs: list[Any] = list(recipes.items()) if isinstance(recipes, Mapping) else list(recipes)
    if any(not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str) for pair in pairs):
        raise InputError(f"the recipes are not names with factories; {wanted}.")
    names = [name for name, _ in pairs]
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            raise InputError(f"there are two recipes named {name!r}; expected a name of its own for each.")
    if len(pairs) < least:
        raise InputError(
            f"got {len(pairs)} recipe{'s' * (len(pairs) != 1)}; {wanted}, {'two' if least == 2 else 'one'} at least."
        )
    return {name: Recipe.of(recipe) for name, recipe in pairs}
