"""Recorders for loops that a library runs: ``LightningRecorder`` and ``TransformersRecorder``.

Each is a callback of its library that opens a :class:`whichmin.Recorder` where training starts and closes it where
training ends. The classes are made when they are first asked for, so that neither library is needed to import this.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from whichmin.errors import InputError, OptimizerError, ResultError
from whichmin.inputs import argument_names
from whichmin.losses.cross_entropy import CrossEntropy
from whichmin.task import Task
from whichmin.training.arguments import OTHER_CALLS, Arguments, Calls, Given, Named, RowsToArguments, reproduced
from whichmin.training.recorder import SNAPSHOTS, Recorder
from whichmin.training.unwrap import unwrapped_model

if TYPE_CHECKING:
    LightningRecorder: Any
    TransformersRecorder: Any

__all__ = ["LightningRecorder", "TransformersRecorder"]

#: Label smoothing that differs by less is the same.
SAME_SMOOTHING = 1e-4

Network = Callable[[nn.Module], nn.Module]


class _Adapter:
    """What the callbacks share.

    Args:
        task: the data at which the network is looked at, on the device of training.
        network: from the trained module to the one that maps rows of X to outputs; its parameters are those trained.
        snapshots: as for :class:`whichmin.Recorder`.
    """

    def __init__(self, task: Task, *, network: Network | None = None, snapshots: int = SNAPSHOTS) -> None:
        self._task, self._network, self._most = task, network, snapshots
        self._recorder: Recorder | None = None

    @property
    def recorder(self) -> Recorder:
        """The recorder of the last training.

        Raises:
            ResultError: training has not begun.
        """
        if self._recorder is None:
            raise ResultError(f"training has not begun: pass this {type(self).__name__} to the trainer's callbacks.")
        return self._recorder

    def close(self, error: BaseException | None = None) -> None:
        """End the recording where the parameters are now, for a training that ended without telling."""
        if self._recorder is not None:
            self._recorder.__exit__(None if error is None else type(error), error, None)

    def _open(self, model: nn.Module, optimizer: torch.optim.Optimizer, other_loss: str = "") -> None:
        """Open the recorder.

        Args:
            model: the trained module.
            optimizer: what steps it.
            other_loss: what is to be remarked of the loop's loss.
        """
        self.close()
        network = model if self._network is None else self._network(model)
        recorder = Recorder(network, optimizer, self._task, snapshots=self._most)
        recorder._other_loss = other_loss
        self._recorder = recorder.__enter__()


def _lightning() -> type:
    base = _import("lightning.pytorch", "LightningRecorder").Callback

    class LightningRecorder(_Adapter, base):  # type: ignore[misc, valid-type]
        __doc__ = """``Trainer(callbacks=[LightningRecorder(task)])``: records a fit of ``lightning.pytorch``.

    The LightningModule's ``forward`` maps rows of X to outputs, or ``network=lambda module: module.net`` says what
    does. One optimizer.
    """ + _arguments()

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """Open the recorder: optimizers are built and checkpoints restored."""
            if len(trainer.optimizers) != 1:
                raise OptimizerError(
                    f"the LightningModule configures {len(trainer.optimizers)} optimizers; a recorder follows one."
                )
            self._open(pl_module, trainer.optimizers[0])

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            """Close it."""
            self.close()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            """Close it where training broke off."""
            self.close(exception)

    return LightningRecorder


def _transformers() -> type:
    base = _import("transformers", "TransformersRecorder").TrainerCallback

    class TransformersRecorder(_Adapter, base):  # type: ignore[misc, valid-type]
        __doc__ = """``Trainer(callbacks=[TransformersRecorder(task)])``: records a training of ``transformers``.

    The network maps rows of X to the logits of the model, or the task's ``output``. X is a mapping of the arguments
    that the loop calls the model with (of all rows padded to one length), or a tensor of the model's main argument,
    such as token numbers; then the attention mask, where the loop has one, is made from it: the first batch shows which
    token pads and at which end. Recording starts with that batch, and training stops there with an error if the batch
    has arguments that X does not tell. Batches that differ later are remarked in ``recorder.notes``.
    So is a ``label_smoothing_factor`` of the trainer's that the task's loss does not have.
    After an exception, which callbacks are not told of, ``close()`` ends the recording.
    """ + _arguments("""
        inputs: from rows of X to the model's keyword arguments, such as ``lambda x: {"input_ids": x[:, 0],
            "attention_mask": x[:, 1]}`` for X = torch.stack([ids, mask], 1).""")

        def __init__(self, task: Task, *, inputs: RowsToArguments | None = None, **settings: Any) -> None:
            super().__init__(task, **settings)
            if inputs is not None and settings.get("network") is not None:
                raise InputError("network says what maps rows of X to outputs: leave inputs out.")
            self._inputs = inputs
            self._calls: Calls | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            """Open the recorder, or wait for the first batch if that tells the arguments of the model."""
            model, optimizer = unwrapped_model(known["model"]), known["optimizer"]
            other_loss = _other_smoothing(self._task, getattr(args, "label_smoothing_factor", 0.0))
            self.close()
            self._recorder = None
            if self._network is not None:
                self._open(model, optimizer, other_loss)
                return

            def start(batch: Mapping[str, Any]) -> Arguments:
                names = argument_names(self._task.X)
                if self._inputs is not None:
                    arguments: Arguments = Given.of(self._inputs, self._task.X)
                else:
                    arguments = Named(names) if names else _arguments_of(model, batch, known)
                arguments.check(batch)
                self._open(arguments.network(model), optimizer, other_loss)
                return arguments

            self._calls = Calls(model, start)

        def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            """Close it."""
            self.close()

        def close(self, error: BaseException | None = None) -> None:
            """End the recording where the parameters are now, for a training that ended without telling."""
            differed = self._calls is not None and self._calls.stop()
            super().close(error)
            if differed and self._recorder is not None:
                self._recorder._notes.append(OTHER_CALLS)

        @property
        def recorder(self) -> Recorder:
            """The recorder of the last training.

            Raises:
                ResultError: training has not begun, or has not called the model.
            """
            if self._recorder is None and self._calls is not None:
                raise ResultError(
                    "the trainer has not called the model in training mode, whose first batch opens the recorder: say "
                    "with network= what maps rows of X to outputs."
                )
            return super().recorder

    return TransformersRecorder


def _other_smoothing(task: Task, factor: float) -> str:
    """What to remark of the label smoothing of a trainer; nothing where the task has the same, or there is none.

    Args:
        task: with its loss, or its targets where these are probabilities, smoothed or not.
        factor: ε: the trainer's targets are (1 − ε) times the labels' plus ε/C.
    """
    smoothed = 0.0
    if isinstance(task.loss, CrossEntropy):
        smoothed, y = task.loss.smoothing, task.y
        if y.is_floating_point():
            smoothed += (1.0 - smoothed) * float(y.double().min()) * y.shape[1]
    if not factor or abs(smoothed - factor) < SAME_SMOOTHING:
        return ""
    return (
        f"the trainer's label_smoothing_factor is {factor:g}, and the task's loss, {task.loss!r}, has not the same: "
        "the loop minimizes another loss, and all terms are measured against the task's own. Give the task "
        f"loss=torch.nn.CrossEntropyLoss(label_smoothing={factor:g}) and class numbers."
    )


def _arguments_of(model: nn.Module, batch: Mapping[str, Any], known: Mapping[str, Any]) -> Arguments:
    """From rows of X to the arguments of the loop's first batch."""
    tokenizer = known.get("processing_class", known.get("tokenizer"))
    pads = [getattr(of, "pad_token_id", None) for of in (tokenizer, getattr(model, "config", None))]
    left = getattr(tokenizer, "padding_side", "right") == "left"
    return reproduced(batch, getattr(model, "main_input_name", "input_ids"), pads, left)


def _arguments(more: str = "") -> str:
    return "\n" + (_Adapter.__doc__ or "").split("\n\n", 1)[1].rstrip() + more + "\n    "


def _import(package: str, name: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(f"{name} needs {package}: pip install 'whichmin[adapters]' ({error}).") from error


_MAKERS = {"LightningRecorder": _lightning, "TransformersRecorder": _transformers}


def __getattr__(name: str) -> Any:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    adapter = _MAKERS[name]()
    adapter.__qualname__ = name
    globals()[name] = adapter
    return adapter
