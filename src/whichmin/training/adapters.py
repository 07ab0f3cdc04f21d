"""Recorders for loops that a library runs: ``LightningRecorder`` and ``TransformersRecorder``.

Each is a callback of its library that opens a :class:`whichmin.Recorder` where training starts and closes it where
training ends. The classes are made when they are first asked for, so that neither library is needed to import this.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from whichmin.errors import OptimizerError, ResultError
from whichmin.task import Task
from whichmin.training.recorder import SNAPSHOTS, Recorder

if TYPE_CHECKING:
    LightningRecorder: Any
    TransformersRecorder: Any

__all__ = ["LightningRecorder", "TransformersRecorder"]

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

    def _open(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.close()
        network = model if self._network is None else self._network(model)
        recorder = Recorder(network, optimizer, self._task, snapshots=self._most)
        self._recorder = recorder.__enter__()


class _Outputs(nn.Module):
    """A model of transformers as a map from rows to a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The logits, where the model returns more than a tensor."""
        out = self.model(x)
        return out if isinstance(out, Tensor) else out.logits


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

    The network is ``model(x)``, or its ``logits``, for rows x of X (such as token numbers), unless ``network`` says
    otherwise. After an exception, which callbacks are not told of, ``close()`` ends the recording.
    """ + _arguments()

        def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            """Open the recorder on the optimizer itself, not on accelerate's wrapper."""
            optimizer = known["optimizer"]
            while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
                optimizer = inner
            model = known["model"]
            self._open(_Outputs(model) if self._network is None else model, optimizer)

        def on_train_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            """Close it."""
            self.close()

    return TransformersRecorder


def _arguments() -> str:
    return "\n" + (_Adapter.__doc__ or "").split("\n\n", 1)[1]


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
