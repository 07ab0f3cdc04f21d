"""The keyword arguments that a loop calls a model of transformers with, made again from rows of X."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whichmin.errors import InputError
from whichmin.inputs import AnyInputs, single_tensor

RowsToArguments = Callable[[Tensor], Mapping[str, Tensor]]

_MASK = "attention_mask"
_ADVICE = (
    "Pass inputs=, a function from rows of X to the model's keyword arguments, with all that it needs in X, such as "
    "X = torch.stack([ids, mask], 1) and inputs=lambda x: {'input_ids': x[:, 0], 'attention_mask': x[:, 1]}."
)

#: What is remarked where later batches differ from what the first one showed.
OTHER_CALLS = (
    "the loop also called the model with arguments that rows of X do not tell, such as another attention mask than "
    f"their padding gives: what it trained on is not what is explained. {_ADVICE}"
)


class Arguments(ABC):
    """What rows of X tell of the keyword arguments of a model."""

    @abstractmethod
    def network(self, model: nn.Module) -> nn.Module:
        """The model as a map from rows of X to outputs."""

    @abstractmethod
    def check(self, batch: Mapping[str, Any]) -> None:
        """Refuse a loop's batch that has inputs beside these.

        Raises:
            InputError: it has; names them.
        """

    @abstractmethod
    def differ(self, batch: Mapping[str, Any]) -> Tensor | bool:
        """Whether a loop's batch is another than rows of X give."""


class FromRows(Arguments):
    """From rows of X to the keyword arguments of a model."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Mapping[str, Tensor]:
        """The arguments for rows x of X."""

    def network(self, model: nn.Module) -> nn.Module:
        """Calls the model with the arguments of its rows."""
        return _WithArguments(model, self)


class _WithArguments(nn.Module):
    def __init__(self, model: nn.Module, arguments: FromRows) -> None:
        super().__init__()
        self.model, self.arguments = model, arguments

    def forward(self, x: Tensor) -> Any:
        """What the model returns."""
        return self.model(**self.arguments(x))


@dataclass(frozen=True)
class Named(Arguments):
    """Rows of X that are the keyword arguments themselves.

    Attributes:
        names: of the arguments.
    """

    names: frozenset[str]

    def network(self, model: nn.Module) -> nn.Module:
        """The model."""
        return model

    def check(self, batch: Mapping[str, Any]) -> None:
        """X has all inputs of the batch."""
        if missing := _inputs(batch).keys() - self.names:
            raise InputError(
                f"the loop calls the model with {_listed(missing)}, which X of the task does not have; it has "
                f"{_listed(self.names)}: add it."
            )

    def differ(self, batch: Mapping[str, Any]) -> Tensor | bool:
        """Whether it has inputs beside those of X."""
        return bool(_inputs(batch).keys() - self.names)


@dataclass(frozen=True)
class Padded(FromRows):
    """Rows of token numbers as the model's main argument, and their mask where the loop has one.

    Attributes:
        main: the argument that rows of X are.
        side: the end at which rows are padded; "none" for a mask of ones, None for no mask.
        pad: the token that pads.
    """

    main: str
    side: Literal["right", "left", "none"] | None = None
    pad: int | None = None

    def __call__(self, x: Tensor) -> Mapping[str, Tensor]:
        """Rows x under the main argument's name, and their mask."""
        return {self.main: x} if self.side is None else {self.main: x, _MASK: self.mask(x)}

    def mask(self, x: Tensor) -> Tensor:
        """One for tokens, zero for those that pad: the run of ``pad`` at that end of each row."""
        if self.side == "none" or self.pad is None:
            return torch.ones_like(x, dtype=torch.int64)
        real = (x != self.pad).to(torch.int64)
        return real.cummax(-1).values if self.side == "left" else real.flip(-1).cummax(-1).values.flip(-1)

    def check(self, batch: Mapping[str, Any]) -> None:
        """The main argument and the mask, and nothing else."""
        inputs = _inputs(batch)
        if self.main not in inputs:
            got = _listed(inputs) or "no tensor"
            raise InputError(f"the loop calls the model with {got}; expected {self.main!r}, rows of X. {_ADVICE}")
        if others := inputs.keys() - {self.main, _MASK}:
            raise InputError(
                f"the loop calls the model with {_listed(others)} beside {self.main!r}, which rows of X do not tell. "
                f"{_ADVICE}"
            )

    def differ(self, batch: Mapping[str, Any]) -> Tensor | bool:
        """Whether its mask is another than that of its rows, or it has other inputs."""
        inputs = _inputs(batch)
        x, mask = inputs.pop(self.main, None), inputs.pop(_MASK, None)
        if x is None or inputs or (mask is None) != (self.side is None):
            return True
        if mask is None:
            return False
        return mask.shape != x.shape or (self.mask(x) != mask).any()


@dataclass(frozen=True)
class Given(FromRows):
    """What the user's own function makes of rows.

    Attributes:
        function: from rows of X to keyword arguments.
        names: of the arguments.
    """

    function: RowsToArguments
    names: frozenset[str]

    @classmethod
    def of(cls, function: RowsToArguments, X: AnyInputs) -> Given:
        """With the names that it gives for a row of the training inputs.

        Raises:
            InputError: it returns something that is no mapping, or X has several tensors.
        """
        made = function(single_tensor(X, "inputs=")[:1])
        if not isinstance(made, Mapping):
            raise InputError(
                f"inputs returned a {type(made).__name__}; expected a mapping of keyword arguments of the model, such "
                "as {'input_ids': x[:, 0], 'attention_mask': x[:, 1]}."
            )
        return cls(function, frozenset(made))

    def __call__(self, x: Tensor) -> Mapping[str, Tensor]:
        """What the function returns."""
        return self.function(x)

    def check(self, batch: Mapping[str, Any]) -> None:
        """The function returns all inputs of the batch."""
        if missing := _inputs(batch).keys() - self.names:
            raise InputError(
                f"the loop calls the model with {_listed(missing)}, which inputs= does not return; it returns "
                f"{_listed(self.names)}: add it, from rows of X."
            )

    def differ(self, batch: Mapping[str, Any]) -> Tensor | bool:
        """Whether it has inputs beside those of the function."""
        return bool(_inputs(batch).keys() - self.names)


class Calls:
    """Watches what a loop calls a model with: reads the first call in training mode, and compares the later ones.

    Args:
        model: the model.
        start: makes the arguments from those of the first call.
    """

    def __init__(self, model: nn.Module, start: Callable[[Mapping[str, Any]], Arguments]) -> None:
        self._model, self._start = model, start
        self._arguments: Arguments | None = None
        self._differ: Tensor | bool = False
        self._signature = list(inspect.signature(model.forward).parameters)
        self._listen()

    def stop(self) -> bool:
        """Stop watching; whether a later call differed from the first, told once."""
        self._handle.remove()
        differ, self._differ = bool(self._differ), False
        return differ

    def _listen(self) -> None:
        # A plain function, which a deep copy of the model shares: a bound method is copied with all it is bound to.
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if module is self._model and module.training:
                self._see(dict(zip(self._signature, args, strict=False)) | kwargs)

        self._handle = self._model.register_forward_pre_hook(hook, with_kwargs=True)

    def _see(self, batch: Mapping[str, Any]) -> None:
        if self._arguments is not None:
            self._differ = self._arguments.differ(batch) | self._differ
            return
        self._handle.remove()  # what starts copies the model
        self._arguments = self._start(batch)
        self._listen()


def reproduced(batch: Mapping[str, Any], main: str, pads: Iterable[int | None], left: bool = False) -> Padded:
    """How to make the arguments of a loop's batch from rows of X.

    The mask is the run of padding tokens at one end of each row: the token is that under the batch's zeros, or else the
    first of ``pads``.

    Args:
        batch: what the model was called with.
        main: the name of the argument that rows of X are.
        pads: the tokenizer's and the model's own numbers of the padding token; None where there is none.
        left: whether the tokenizer pads on the left.

    Raises:
        InputError: a mask that is not that of rows padded at one end.
    """
    inputs = _inputs(batch)
    x, mask = inputs.get(main), inputs.get(_MASK)
    if x is None or mask is None:
        return Padded(main)
    if mask.shape == x.shape:
        under = x[mask == 0].unique().tolist()
        pad = under[0] if under else next((pad for pad in pads if pad is not None), None)
        sides: tuple[Literal["right", "left"], ...] = ("left", "right") if left else ("right", "left")
        for side in sides if under else sides[:1]:
            padded = Padded(main, side, pad)
            if torch.equal(padded.mask(x), mask.to(torch.int64)):
                return padded
        if not under:
            return Padded(main, "none")
    raise InputError(
        f"the loop's {_MASK} is not that of rows padded with one token at one end: rows of X do not tell it. {_ADVICE}"
    )


def _inputs(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a call that are neither targets nor what the model takes where they are missing."""
    tensors = {k: v for k, v in batch.items() if isinstance(v, Tensor) and v.ndim > 0 and "label" not in k}
    return {k: v for k, v in tensors.items() if not _is_default(k, v)}


def _is_default(name: str, value: Tensor) -> bool:
    if name == "token_type_ids":
        return not bool(value.any())
    if name == "position_ids":
        return bool((value == torch.arange(value.shape[-1], device=value.device)).all())
    return False


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))
