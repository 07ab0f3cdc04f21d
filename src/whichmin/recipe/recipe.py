"""What is compared: ways to train, by name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from whichmin.dynamics.rules.registry import OptimizerFactory, build, learning_rate_is_best, with_learning_rate
from whichmin.errors import InputError, OptimizerError
from whichmin.recipe.batches import check_batch_size, generator_of
from whichmin.recipe.build import SchedulerFactory, build_scheduler, check_optimizer
from whichmin.task import Task

#: Between the batch seeds of one initialization and the next.
STRIDE = 1000


@dataclass(frozen=True)
class Choice:
    """One way to train.

    Attributes:
        optimizer: a factory, as for :func:`whichmin.predict`.
        batch_size: rows per step; None for all of them.
        seed: of the order of the batches: initialization s is trained in the order of ``seed + 1000·s``, so that what
            is consistent over initializations is not one order's doing.
        scheduler: a factory of a learning-rate scheduler, or None.
    """

    optimizer: OptimizerFactory
    batch_size: int | None = None
    seed: int = 0
    scheduler: SchedulerFactory | None = None

    def course(self, initialization: int) -> dict[str, Any]:
        """Batches and scheduler of one initialization, as arguments of ``predict`` and ``train``."""
        seed = 0 if self.batch_size is None else self.seed + STRIDE * initialization
        return {"batch_size": self.batch_size, "seed": seed, "scheduler": self.scheduler}


Choices = Mapping[str, Choice | OptimizerFactory] | Sequence[tuple[str, Choice | OptimizerFactory]]


def check_choices(choices: Choices, task: Task, model: nn.Module) -> dict[str, Choice]:
    """The choices by name, each tried on a network.

    Raises:
        InputError: fewer than two, a name that comes twice or is no text, a batch size or seed that cannot be used.
        OptimizerError: a factory that fails; the message names the choice.
    """
    wanted = 'expected a dict such as {"gd": partial(torch.optim.SGD, lr=0.1), "adam": …}, or (name, choice) pairs'
    if not isinstance(choices, Mapping | Sequence) or isinstance(choices, str):
        raise InputError(f"the choices are {choices!r}; {wanted}.")
    pairs: list[Any] = list(choices.items()) if isinstance(choices, Mapping) else list(choices)
    if any(not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str) for pair in pairs):
        raise InputError(f"the choices are not names with factories; {wanted}.")
    names = [name for name, _ in pairs]
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            raise InputError(f"there are two choices named {name!r}; expected a name of its own for each.")
    if len(pairs) < 2:
        raise InputError(f"got {len(pairs)} choice{'s' * (len(pairs) != 1)}; {wanted}, two at least.")
    made = {name: c if isinstance(c, Choice) else Choice(c) for name, c in pairs}
    for name, choice in made.items():
        try:
            check_batch_size(choice.batch_size, task.n)
            generator_of(choice.seed)
            built = _trial(choice, model)
            check_optimizer(built, model)
            build_scheduler(choice.scheduler, built)
        except InputError as error:
            error.args = (f"choice {name!r}: {error}", *error.args[1:])
            raise
    return made


def describe(name: str, choice: Choice, model: nn.Module) -> list[Any]:
    """What a kept result depends on, as plain values: names, settings and the optimizer as it is built.

    A function's code cannot be told apart reliably: a factory is its qualified name and the keywords of partials,
    together with the class, settings and state of the optimizer that it builds.
    """
    made = _trial(choice, model)
    groups = [{k: _plain(v) for k, v in group.items() if k != "params"} for group in made.param_groups]
    sizes = [[tuple(p.shape) for p in group["params"]] for group in made.param_groups]
    state = [_plain(made.state[p]) for group in made.param_groups for p in group["params"] if p in made.state]
    factories = [_plain(choice.optimizer), _plain(choice.scheduler)]
    return [name, *factories, _qualified(type(made)), groups, sizes, state, choice.batch_size, choice.seed]


def _trial(choice: Choice, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer on the model's own parameters, which it does not step; "best" is a number there."""
    factory: Any = choice.optimizer
    if isinstance(factory, nn.Module):
        raise OptimizerError(f"got a network, {type(factory).__name__}; expected an optimizer factory or a Choice.")
    factory = with_learning_rate(factory, 1e-3) if learning_rate_is_best(factory) else factory
    return build(factory, [p for p in model.parameters() if p.requires_grad])


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return [str(value.dtype), list(value.shape), digest([value])]
    if isinstance(value, partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _qualified(value) if callable(value) else str(type(value))


def _qualified(value: Any) -> str:
    of = value if hasattr(value, "__qualname__") else type(value)
    return f"{of.__module__}.{of.__qualname__}"


def digest(tensors: Sequence[Tensor], *texts: str) -> str:
    """A hash of tensors, their types and shapes, and texts."""
    found = hashlib.sha256("\n".join(texts).encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        found.update(f"{values.dtype} {tuple(values.shape)}".encode())
        found.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
