"""Recurrent layers as dense layers: one for the inputs of all steps, and one that meets the state of every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: From the dense layer of the input, that of the state, and the state to the next state; the output comes first.
Cell = Callable[[Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def _lstm(of_input: Tensor, of_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (of_input + of_state).chunk(4, dim=-1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(of_input: Tensor, of_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    r, z, n = of_input.chunk(3, dim=-1)
    r_state, z_state, n_state = of_state.chunk(3, dim=-1)
    new = (n + (r + r_state).sigmoid() * n_state).tanh()
    z = (z + z_state).sigmoid()
    return ((1 - z) * new + z * state[0],)


def _rnn(activation: Callable[[Tensor], Tensor]) -> Cell:
    return lambda of_input, of_state, state: (activation(of_input + of_state),)


def _layers(cell: Cell, is_lstm: bool, *args: Any) -> Any:
    """``torch.lstm``, ``torch.gru``, ``torch.rnn_tanh`` and ``torch.rnn_relu`` on padded sequences."""
    if len(args) != 9 or isinstance(args[3], list | tuple):  # a packed sequence
        return NotImplemented
    x, hx, weights, has_bias, layers, dropout, training, bidirectional, batch_first = args
    directions = 2 if bidirectional else 1
    states = tuple(hx) if is_lstm else (hx,)
    each = len(weights) // (layers * directions)
    if (training and dropout > 0 and layers > 1) or each != 2 + 2 * bool(has_bias) or x.ndim != 3:
        return NotImplemented
    x = x.transpose(0, 1) if batch_first else x
    ends: list[tuple[Tensor, ...]] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            k = layer * directions + direction
            start = tuple(s[k] for s in states)
            own = weights[k * each : (k + 1) * each]
            out, end = _unrolled(cell, x, start, own, direction == 1)
            outputs.append(out)
            ends.append(end)
        x = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
    last = [torch.stack(parts) for parts in zip(*ends, strict=True)]
    return (x.transpose(0, 1) if batch_first else x, *last)


def _unrolled(
    cell: Cell, x: Tensor, state: tuple[Tensor, ...], weights: Sequence[Tensor], backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    w_input, w_state, *biases = weights
    b_input, b_state = biases or (None, None)
    of_input = F.linear(x, w_input, b_input)
    outputs: list[Tensor] = []
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        state = cell(of_input[t], F.linear(state[0], w_state, b_state), state)
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _step(
    cell: Cell,
    is_lstm: bool,
    x: Tensor,
    hx: Any,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Any:
    """``torch.lstm_cell``, ``torch.gru_cell``, ``torch.rnn_tanh_cell`` and ``torch.rnn_relu_cell``."""
    state = tuple(hx) if is_lstm else (hx,)
    new = cell(F.linear(x, w_ih, b_ih), F.linear(state[0], w_hh, b_hh), state)
    return new if is_lstm else new[0]


_KINDS: list[tuple[str, Cell, bool]] = [
    ("lstm", _lstm, True),
    ("gru", _gru, False),
    ("rnn_tanh", _rnn(torch.tanh), False),
    ("rnn_relu", _rnn(torch.relu), False),
]

CALLS: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(torch._VF, name + suffix): partial(run, cell, is_lstm)  # type: ignore[attr-defined]
    for name, cell, is_lstm in _KINDS
    for suffix, run in (("", _layers), ("_cell", _step))
}
