"""``Checkpoint``: where training stood after some steps; it may stand where a model may stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor, nn

from whichmin.errors import ModelError, ResultError
from whichmin.recipe.memory import OptimizerMemory
from whichmin.recipe.recipe import Recipe
from whichmin.results import NOT_SAVED, Saved
from whichmin.tangent.copying import private_copy
from whichmin.tangent.model import trainable


@dataclass(frozen=True, eq=False)
class Checkpoint(Saved):
    """Where training stood after some steps: ``run.checkpoint(step)``.

    It takes the place of the model in ``predict``, ``explain``, ``tangent_kernel``, ``compare`` and ``train``: what
    happened before is the new initialization. Training goes on from it as if it had not been interrupted: with what the
    optimizer remembers (momentum, second moments, step counters), in the middle of an epoch, at the scheduler's place.
    All step counts, ``steps=`` and those of results, are counted from the beginning of training.

    The recipe is passed with it again, for a checkpoint holds values and no code. Its optimizer must be that of the
    training before, with its settings at that step; its batches may be others, of which so many count as gone. To start
    another optimizer there, with nothing remembered, pass :meth:`model`.

    Memory: a copy of parameters and buffers, and of what the optimizer remembers: nothing for plain SGD, one more copy
    of the parameters with momentum or AdaGrad, two for Adam.

    Attributes:
        step: how many steps were made.
        state: parameters and buffers, a state dict.
        memory: what the optimizer remembers.

    Nonnenmacher, Reeb, Steinwart, *Which Minimizer Does My Neural Network Converge To?* (arXiv 2011.02408), Sect. 6.
    """

    kind: ClassVar[str] = "checkpoint"

    step: int
    state: dict[str, Tensor] = field(repr=False)
    memory: OptimizerMemory
    _network: nn.Module | None = field(default=None, repr=False, metadata=NOT_SAVED)

    def model(self) -> nn.Module:
        """A copy of the network there.

        Raises:
            ResultError: a checkpoint that was loaded, and has no network yet.
        """
        if self._network is None:
            raise ResultError(
                "a loaded checkpoint holds no network: pass checkpoint.with_network(model), model of the kind that was "
                "trained."
            )
        network = private_copy(self._network)
        network.load_state_dict(self.state)
        return network

    def with_network(self, model: nn.Module) -> Checkpoint:
        """The same with a network of the kind that was trained, whatever its parameters; it is copied.

        Raises:
            ModelError: a model of other parameters or buffers.
        """
        _check_kind(self.state, model)
        return replace(self, _network=private_copy(model))

    def _facts(self) -> Mapping[str, Any]:
        remembered = dict.fromkeys(key for values in self.memory.values.values() for key in values)
        size = sum(t.numel() for t in self.state.values())
        return {"step": self.step, "optimizer": self.memory.optimizer, "numbers": size, "remembered": list(remembered)}


def begin(subject: nn.Module | Checkpoint, recipe: Recipe) -> tuple[nn.Module, Recipe]:
    """The network to start from, and the recipe from there on: what a verb makes of a checkpoint.

    Raises:
        OptimizerError: the recipe's optimizer is not the one that the checkpoint's training had.
        ResultError: a checkpoint that was loaded, and has no network yet.
    """
    if not isinstance(subject, Checkpoint):
        return subject, recipe
    model = subject.model()
    return model, recipe.resumed(subject.memory, trainable(model)) if subject.step else recipe


def network_of(subject: nn.Module | Checkpoint) -> nn.Module:
    """The network of a checkpoint, or the network itself.

    Raises:
        ResultError: a checkpoint that was loaded, and has no network yet.
    """
    return subject.model() if isinstance(subject, Checkpoint) else subject


def _check_kind(state: Mapping[str, Tensor], model: nn.Module) -> None:
    own = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    kept = {name: tuple(t.shape) for name, t in state.items()}
    if own == kept:
        return
    name = next(name for name in [*kept, *own] if own.get(name) != kept.get(name))
    raise ModelError(
        f"this is a checkpoint of another model: its {name!r} {_shaped(kept.get(name))}, and that of the "
        f"{type(model).__name__} {_shaped(own.get(name))}. Pass a model of the class and sizes that were trained."
    )


def _shaped(shape: tuple[int, ...] | None) -> str:
    return "is not there" if shape is None else f"has shape {shape}"
