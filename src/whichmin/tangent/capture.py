"""Where a model uses its parameters: caught at the function calls, so that functional, reused and tied code works.

A :class:`Capture` is a torch function mode. While the model runs under it, each call in which a trainable parameter
appears is recorded as a :class:`Use` with the call's input and the edge of the autograd graph at its output; what no
handler recognizes marks the parameter as *opaque*, and its part of the kernel is computed in another way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from whichmin.tangent.cached_layer import Seen
from whichmin.tangent.products import product


@dataclass(frozen=True, eq=False)
class Use:
    """One call in which a parameter appears.

    Attributes:
        parameter: its name.
        kind: ``linear``, ``convolution``, ``embedding``, ``sum`` (the gradient is that of the output, summed over the
            axes along which the parameter was broadcast) or ``product`` (the same, times ``input``).
        input: what the parameter met, detached, (N, …); None for ``sum``.
        edge: the call's output in the autograd graph.
        shape: the output's shape, (N, …).
        transposed: whether the parameter entered as its transpose.
        options: what the kind needs besides.
        version: the input's version at the call.
        fixed: whether no parameter moves the input.
    """

    parameter: str
    kind: str
    input: Tensor | None
    edge: GradientEdge
    shape: tuple[int, ...]
    transposed: bool = False
    options: Mapping[str, Any] | None = None
    version: int = 0
    fixed: bool = False

    @property
    def is_first_layer(self) -> bool:
        """Whether this is ``F.linear`` of rows (N, in) that no parameter moves."""
        plain = self.kind == "linear" and not self.transposed and not (self.options or {}).get("right")
        return plain and self.fixed and self.input is not None and self.input.ndim == 2

    @property
    def intact(self) -> bool:
        """Whether the input still holds what it held at the call (nothing wrote into it since)."""
        return self.input is None or self.input._version == self.version


class Capture(TorchFunctionMode):
    """Records the uses of trainable parameters while a model runs on inputs of N rows.

    Attributes:
        uses: in the order of the calls.
        opaque: names of parameters that were used in a call no handler recognizes.
        looked_up: whether an embedding or a one-hot encoding was called, so that integer inputs make sense.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        inputs: Tensor,
        *,
        copy_views: bool = False,
        held: Mapping[str, Seen] | None = None,
    ) -> None:
        super().__init__()
        self.copy_views = copy_views
        self._held = held or {}
        self._views: list[tuple[Tensor, int]] = []
        self.rows = len(inputs)
        self.uses: list[Use] = []
        self.opaque: set[str] = set()
        self.looked_up = False
        self._names: WeakIdKeyDictionary = WeakIdKeyDictionary()  # parameter or its transpose → (name, transposed)
        self._rowwise: WeakIdKeyDictionary = WeakIdKeyDictionary()  # tensors that come from the inputs
        self._rowwise[inputs] = True
        self._moving: WeakIdKeyDictionary = WeakIdKeyDictionary()  # tensors that depend on parameters, detached or not
        self._told: WeakIdKeyDictionary = WeakIdKeyDictionary()  # inputs of held layers → the tensor that they hold
        for name, parameter in parameters.items():
            self._names[parameter] = (name, False)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call and record it."""
        kwargs = kwargs or {}
        run = self._dense if func is F.linear else func
        out = run(*args, **kwargs)
        self.looked_up |= func in _LOOKUPS
        tensors = list(_tensors(args)) + list(_tensors(kwargs.values()))
        if any(t in self._rowwise for t in tensors):
            for t in _tensors((out,)):
                self._rowwise[t] = True
        met = [t for t in tensors if t in self._names]
        if met or any(t in self._moving for t in tensors):
            for t in _tensors((out,)):
                self._moving[t] = True
        if met and func not in _METADATA and not self._transpose(func, args, kwargs, out):
            if self.copy_views and isinstance(out, Tensor) and out._is_view():
                out = out.clone()
                self._rowwise[out] = True
            self._record(func, args, kwargs, out, met)
        return out

    def _dense(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        named = self._names.get(weight)
        held = None if named is None or named[1] else self._held.get(named[0])
        known = None if held is None else held.call(input, weight, bias)
        if known is None:
            return product(input, weight, bias)
        assert held is not None
        self._told[input] = held.input
        return known

    @property
    def overwritten(self) -> bool:
        """Whether an output that is a view was written into: its edge has left the graph, run again with copies."""
        return any(view._version != version for view, version in self._views)

    def _transpose(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        if func not in _TRANSPOSES or kwargs or len(args) == 0 or args[0] not in self._names or args[0].ndim != 2:
            return False
        if len(args) > 1 and {a % 2 for a in args[1:]} != {0, 1}:
            return False
        name, transposed = self._names[args[0]]
        self._names[out] = (name, not transposed)
        return True

    def _record(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, met: list[Tensor]
    ) -> None:
        handler = _HANDLERS.get(func)
        if func in _BROADCASTS and len(met) == 1:
            handler = partial(_broadcast, met[0], _BROADCASTS[func])
        found: list[_Found] | None = None
        usable = isinstance(out, Tensor) and out.requires_grad and out.ndim > 0 and out.shape[0] == self.rows
        if handler is not None and usable and out in self._rowwise:
            found = handler(*args, **kwargs)
        if found is None or {id(p) for p, *_ in found} & {id(t) for t in met} != {id(t) for t in met}:
            self.opaque.update(self._names[t][0] for t in met)
            return
        edge = get_gradient_edge(out)
        if out._is_view():
            self._views.append((out.detach(), out._version))
        for parameter, kind, x, options in found:
            if parameter not in self._names:  # frozen
                continue
            name, transposed = self._names[parameter]
            rowwise = x is None or (x in self._rowwise and len(x) == self.rows)
            if not rowwise or (transposed and kind != "linear"):
                self.opaque.add(name)
                continue
            version, fixed = (0, False) if x is None else (x._version, x not in self._moving)
            kept = None if x is None else self._told.get(x, x.detach())
            self.uses.append(Use(name, kind, kept, edge, tuple(out.shape), transposed, options, version, fixed))


def looked_up(model: nn.Module, x: Tensor) -> bool:
    """Whether the model looks an embedding or a one-hot encoding up, so that integer inputs make sense."""
    with torch.no_grad(), Capture({}, x) as capture:
        model(x)
    return capture.looked_up


_Found = tuple[Tensor, str, "Tensor | None", "dict[str, Any] | None"]


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> list[_Found]:
    found: list[_Found] = [(weight, "linear", input, None)]
    return found if bias is None else [*found, (bias, "sum", None, {"axis": -1})]


def _matmul(input: Tensor, other: Tensor) -> list[_Found] | None:
    # x @ W is linear with Wᵀ: only the transposed orientation differs.
    return [(other, "linear", input, {"right": True})] if other.ndim == 2 and input.ndim >= 2 else None


def _convolution(dims: int) -> Callable[..., list[_Found] | None]:
    def handler(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> list[_Found] | None:
        if input.ndim != dims + 2:
            return None
        stride, dilation = _each(stride, dims), _each(dilation, dims)
        if padding == "valid":
            padding = 0
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            if any(t % 2 for t in total):
                return None
            padding = [t // 2 for t in total]
        options = {"stride": stride, "padding": _each(padding, dims), "dilation": dilation, "groups": groups}
        found: list[_Found] = [(weight, "convolution", input, options)]
        return found if bias is None else [*found, (bias, "sum", None, {"axis": 1})]

    return handler


def _each(value: Any, dims: int) -> list[int]:
    return [int(value)] * dims if isinstance(value, int) else ([int(v) for v in value] * dims)[:dims]


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> list[_Found] | None:
    if max_norm is not None or scale_grad_by_freq or sparse:
        return None
    if padding_idx is not None and padding_idx < 0:
        padding_idx += len(weight)
    return [(weight, "embedding", input, {"padding_idx": padding_idx})]


def _affine(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, axis: int | None, prepare: Callable[[Tensor], Tensor]
) -> list[_Found]:
    """A normalization's gain and shift; ``prepare`` normalizes the input when the contraction needs it."""
    found: list[_Found] = []
    if weight is not None:
        found.append((weight, "product", x, {"axis": axis, "prepare": prepare}))
    if bias is not None:
        found.append((bias, "sum", None, {"axis": axis}))
    return found


def _layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> list[_Found]:
    shape = tuple(normalized_shape)
    return _affine(input, weight, bias, None, lambda x: F.layer_norm(x, shape, None, None, eps))


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> list[_Found]:
    return _affine(input, weight, bias, 1, lambda x: F.group_norm(x, num_groups, None, None, eps))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> list[_Found] | None:
    if training:
        return None
    return _affine(
        input, weight, bias, 1, lambda x: F.batch_norm(x, running_mean, running_var, None, None, False, 0.0, eps)
    )


def _broadcast(parameter: Tensor, kind: str, a: Any, b: Any, **options: Any) -> list[_Found] | None:
    """An elementwise sum or product of rows with a parameter that is broadcast over them."""
    if options or not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return None
    x = a if b is parameter else b
    if parameter.ndim > x.ndim or (parameter.ndim == x.ndim and len(parameter) != 1):
        return None
    return [(parameter, kind, x if kind == "product" else None, {"axis": "broadcast"})]


_HANDLERS: dict[Any, Callable[..., list[_Found] | None]] = {
    F.linear: _linear,
    F.conv1d: _convolution(1),
    F.conv2d: _convolution(2),
    F.conv3d: _convolution(3),
    F.embedding: _embedding,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    F.batch_norm: _batch_norm,
}
_HANDLERS |= dict.fromkeys([torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__], _matmul)

_BROADCASTS: dict[Any, str] = dict.fromkeys(
    [torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__, Tensor.add_], "sum"
) | dict.fromkeys([torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__], "product")

_TRANSPOSES = {Tensor.t, torch.t, Tensor.T.__get__, Tensor.mT.__get__, Tensor.transpose, torch.transpose}  # type: ignore[attr-defined]

_LOOKUPS = {F.embedding, F.embedding_bag, F.one_hot, torch.embedding}

#: Calls that read a parameter's shape or place and nothing of its values.
_METADATA = {
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.is_floating_point,
    *(getattr(Tensor, a).__get__ for a in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout")),
}


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())
