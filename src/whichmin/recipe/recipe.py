"""``Recipe``: what trains a network, in one object."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, fields, replace
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from whichmin.errors import InputError
from whichmin.recipe.batches import Remaining, batch_order, check_batch_size, generator_of, steps_per_epoch
from whichmin.recipe.build import OptimizerFactory, SchedulerFactory, build_optimizer, build_scheduler
from whichmin.recipe.describe import Unknown, describe_recipe, describe_steps
from whichmin.recipe.memory import OptimizerMemory
from whichmin.shown import Shown

#: A learning rate that the theory, or the training loss, says.
NamedRate: TypeAlias = Literal["best", "half", "monotone"]
#: Difference of the batch seeds of one initialization and the next.
SEED_STRIDE = 1000


@dataclass(frozen=True)
class Recipe(Shown):
    """What trains a network: an optimizer, its batches and its scheduler.

    Attributes:
        optimizer: a factory, such as ``partial(torch.optim.Adam, lr=1e-3)``; ``lr="best"`` is the best rate that the
            theory knows for the network and the data, ``lr="half"`` half of the limit of stability, ``lr="monotone"``
            the largest rate at which the training loss falls at every step.
        batch_size: rows per step; None for all of them.
        seed: of the order of the batches; nothing else of training is random.
        scheduler: a factory optimizer → ``torch.optim.lr_scheduler.LRScheduler``, stepped after every step; or None.
        remaining: the rows that are left of the training set whose batches are made (:meth:`without`); None where it is
            whole.
        memory: what the optimizer remembers where training goes on (:meth:`resumed`); None where it starts anew.

    Args:
        lr: the factory's learning rate, in place of its own: a number or one of the names above. It says the same as
            ``partial(Optimizer, lr=lr)``, whose type says that torch takes numbers alone.
    """

    optimizer: OptimizerFactory
    batch_size: int | None = None
    seed: int = 0
    scheduler: SchedulerFactory | None = None
    remaining: Remaining | None = None
    memory: OptimizerMemory | None = field(default=None, repr=False)
    lr: InitVar[float | NamedRate | None] = field(default=None, kw_only=True)

    def __post_init__(self, lr: float | NamedRate | None) -> None:
        """Give the factory its learning rate."""
        if lr is not None and callable(self.optimizer):
            factory: Any = self.optimizer
            object.__setattr__(self, "optimizer", partial(factory, lr=lr))

    @classmethod
    def of(
        cls,
        optimizer: OptimizerFactory | Recipe,
        batch_size: int | None = None,
        seed: int = 0,
        scheduler: SchedulerFactory | None = None,
    ) -> Recipe:
        """The recipe that a verb is given: a factory with keywords, or a recipe alone.

        Raises:
            InputError: a recipe, and keywords beside it.
        """
        said = {"batch_size": batch_size, "seed": seed, "scheduler": scheduler}
        if not isinstance(optimizer, Recipe):
            return cls(optimizer, **said)
        defaults = {known.name: known.default for known in fields(cls)}
        beside = [name for name, value in said.items() if value is not defaults[name] and value != defaults[name]]
        if beside:
            raise InputError(
                f"got a Recipe and {', '.join(f'{name}={said[name]!r}' for name in beside)}; a Recipe brings its own "
                f"batches and scheduler. Write dataclasses.replace(recipe, {beside[0]}=…), or pass its optimizer "
                "factory with the keywords."
            )
        return optimizer

    def check(self, n: int) -> int | None:
        """The rows per step of n, before any are left out; None where a step is all rows.

        Raises:
            InputError: a batch size or a seed that cannot be used, or rows of another training set.
        """
        generator_of(self.seed)
        return check_batch_size(self.batch_size, self._total(n))

    def without(self, rows: Sequence[int], n: int) -> Recipe:
        """The recipe on the rest of n rows: its batches are those of all of them, with some rows taken out.

        So that nothing else changes: order, number of steps and schedule stay, and a loss that is a mean divides by
        what is left of a batch. A batch of which nothing is left is a step with a gradient of zero.

        Args:
            rows: the numbers of the rows that are left out.
            n: how many rows there were.
        """
        return self if self.batch_size is None else replace(self, remaining=Remaining.without(rows, n))

    def resumed(self, memory: OptimizerMemory, parameters: Mapping[str, nn.Parameter]) -> Recipe:
        """The recipe from some step on: batches and scheduler at their place there, an optimizer that remembers.

        Args:
            memory: what the optimizer remembers there; its steps count as steps of this recipe.
            parameters: of the network by name, for a check of the optimizer; they are not moved.

        Raises:
            OptimizerError: the memory of another class of optimizer, or of one with other settings at that step.
        """
        settled = self.with_learning_rate(memory.initial_rate) if self.names_rate else self
        resumed = replace(settled, memory=memory)
        optimizer = resumed.build(parameters.values())
        resumed.build_scheduler(optimizer)
        memory.check(optimizer, parameters)
        return resumed

    @property
    def first_step(self) -> int:
        """How many steps were made before training starts, or goes on, with this recipe."""
        return 0 if self.memory is None else self.memory.step

    def batches(self, n: int) -> Iterator[Tensor] | None:
        """The endless sequence of batches of n rows from the first step on; None where a step is all rows.

        Raises:
            InputError: as :meth:`check`.
        """
        size = self.check(n)
        if size is None:
            return None
        order = batch_order(self._total(n), size, self.seed)
        ahead = islice(order, self.first_step, None)
        return ahead if self.remaining is None else self.remaining.of(ahead)

    def steps_per_epoch(self, n: int) -> int:
        """Steps in which every one of n rows comes once.

        Raises:
            InputError: as :meth:`check`.
        """
        return steps_per_epoch(self._total(n), self.check(n))

    def _total(self, n: int) -> int:
        """How many rows the training set has whose batches are made."""
        if self.remaining is None:
            return n
        if len(self.remaining.rows) != n:
            raise InputError(f"the recipe is for the {len(self.remaining.rows)} rows that were left, and got {n}.")
        return self.remaining.total

    @property
    def wants_theory_rate(self) -> bool:
        """Whether the learning rate is the theory's, ``partial(Optimizer, lr="best")`` or ``lr="half"``."""
        return self._named_rate in ("best", "half")

    @property
    def wants_half_rate(self) -> bool:
        """Whether it is half of the limit of stability, ``partial(Optimizer, lr="half")``."""
        return self._named_rate == "half"

    @property
    def wants_monotone_rate(self) -> bool:
        """Whether it is the largest at which the training loss falls, ``partial(Optimizer, lr="monotone")``."""
        return self._named_rate == "monotone"

    @property
    def names_rate(self) -> bool:
        """Whether the learning rate is one of these, which need the network and the data to be numbers."""
        return self.wants_theory_rate or self.wants_monotone_rate

    @property
    def _named_rate(self) -> str | None:
        rate = self.optimizer.keywords.get("lr") if isinstance(self.optimizer, partial) else None
        return rate if isinstance(rate, str) else None

    def with_learning_rate(self, lr: float) -> Recipe:
        """The recipe with this number in place of ``lr="best"``, ``"half"`` or ``"monotone"``.

        Raises:
            InputError: an optimizer factory that is no ``functools.partial``.
        """
        factory: Any = self.optimizer
        if not isinstance(factory, partial):
            raise InputError(
                f"cannot set the learning rate of {factory!r}; expected functools.partial(Optimizer, lr=…)."
            )
        return replace(self, optimizer=partial(factory.func, *factory.args, **{**factory.keywords, "lr": lr}))

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters, with what it remembers.

        Raises:
            OptimizerError: not a factory, the factory fails, or it makes another optimizer than the one remembered.
        """
        built = build_optimizer(self.optimizer, parameters)
        if self.memory is not None:
            self.memory.load(built)
        return built

    def build_scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
        """The scheduler of a built optimizer, at its place for the first step; None for none.

        Raises:
            OptimizerError: not a factory, the factory fails, or what it makes does not schedule this optimizer by
                steps.
        """
        built = build_scheduler(self.scheduler, optimizer)
        if built is not None and self.first_step:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that the optimizer has not stepped
                for _ in range(self.first_step):
                    built.step()
        return built

    def at_initialization(self, s: int) -> Recipe:
        """The recipe of initialization number s: batches in the order of ``seed + 1000·s``.

        So what is consistent over initializations is not the doing of one order. Without mini-batches the seed is 0.
        """
        return replace(self, seed=0 if self.batch_size is None else self.seed + SEED_STRIDE * s)

    def describe(self, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any] | Unknown:
        """All that results depend on, as plain values; ``Unknown`` where two recipes could not be told apart.

        Args:
            parameters: of the network by name; the optimizer is built of them and makes no step, and once more of
                copies, of which a few steps show what it does.

        Raises:
            OptimizerError: as :meth:`build` and :meth:`build_scheduler`.
        """
        settled = self.with_learning_rate(1e-3) if self.names_rate else self
        optimizer = settled.build(parameters.values())
        described = describe_recipe(optimizer, settled.build_scheduler, parameters)
        if isinstance(described, Unknown):
            return described
        batches: dict[str, Any] = {
            "batch_size": self.batch_size,
            "seed": None if self.batch_size is None else self.seed,
        }
        if self.remaining is not None:
            batches["remaining"] = [self.remaining.total, *self.remaining.rows]
        if self.memory is not None:
            batches["steps made"] = self.first_step
        rates = {
            "best_rate": self._named_rate == "best",
            "half_rate": self.wants_half_rate,
            "monotone_rate": self.wants_monotone_rate,
        }
        does = describe_steps(settled.build, list(parameters.values()))
        return described | {"does": does} | batches | rates
