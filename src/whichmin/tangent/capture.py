"""Where a model uses its parameters: caught at the function calls, so that functional, reused and tied code works."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.overrides import TorchFunctionMode

from whichmin.inputs import AnyInputs, called, tensors_of
from whichmin.tangent.cached_layer import CachedCall
from whichmin.tangent.composites.registry import COMPOSITES
from whichmin.tangent.layers.base import Part, Use
from whichmin.tangent.layers.bias import EXPANSIONS
from whichmin.tangent.layers.registry import recognizers
from whichmin.tangent.products import product


@dataclass(frozen=True, eq=False)
class Derived:
    """A tensor that is computed from parameters alone, such as a normalized weight or a part of a larger one.

    Attributes:
        tensor: the tensor, with its graph.
        version: its version when it was made.
        sources: the parameters and derived tensors that it is computed from, by name.
    """

    tensor: Tensor
    version: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class _Named:
    """What a tensor is of a parameter, or of a tensor derived from parameters.

    Attributes:
        name: the parameter's.
        transposed: whether its last two axes are exchanged.
        entry: which matrix of a parameter with three axes it is; None for the whole.
    """

    name: str
    transposed: bool = False
    entry: int | None = None


class _Notes:
    """What is noted of tensors, by identity; a note ends with its tensor."""

    def __init__(self) -> None:
        self._notes: dict[int, tuple[weakref.ref[Tensor], Any]] = {}

    def get(self, t: Tensor) -> Any:
        """The note; None for none."""
        entry = self._notes.get(id(t))
        return entry[1] if entry is not None and entry[0]() is t else None

    def put(self, t: Tensor, note: Any) -> None:
        """Note something in place of what was noted before."""
        self._notes[id(t)] = (weakref.ref(t), note)


class Capture(TorchFunctionMode):
    """Records the uses of trainable parameters while a model runs on inputs of N rows.

    Each call in which a trainable parameter, or a tensor derived from parameters, meets what comes from the inputs is
    recorded as a :class:`Use` with the call's input and the edge of the autograd graph at its output; what no kind of
    layer recognizes marks the parameter as *opaque*, and its part of the kernel is computed in another way. Calls that
    consist of several layers are taken apart (see ``tangent.composites``).

    Args:
        parameters: the trainable parameters by name.
        copy_views: whether outputs that are views are copied, for models that write into them.
        cached: calls that are answered without their layer.

    Attributes:
        uses: in the order of the calls.
        opaque: names of parameters that were used in a call no kind of layer recognizes.
        silent: names of parameters and derived tensors that met calls without a graph: under ``no_grad``, or within an
            autograd function of the model's own, which has a gradient that is not seen.
        derived: tensors computed from parameters, by names of their own.
        reads_integers: whether an embedding or a one-hot encoding was called, or integers were made floating-point
            numbers, so that integer inputs make sense.
        types: the floating-point types of what calls return of inputs and parameters, some of which autocast or the
            model itself may choose.
        row_shape: of a row's outputs as the model returns them, before they are flattened.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        *,
        copy_views: bool = False,
        cached: Mapping[str, CachedCall] | None = None,
    ) -> None:
        super().__init__()
        self.copy_views = copy_views
        self._cached = cached or {}
        self._recognizers = recognizers()
        self._views: list[tuple[Tensor, int]] = []
        self.uses: list[Use] = []
        self.opaque: set[str] = set()
        self.silent: set[str] = set()
        self.derived: dict[str, Derived] = {}
        self.reads_integers = False
        self.types: set[torch.dtype] = set()
        self.row_shape: tuple[int, ...] = ()
        self._names = _Notes()  # of a parameter, its transpose or an entry what it is, a _Named
        self._origins = _Notes()  # of a tensor (whether it comes from inputs, whether from parameters, detached or not)
        self._stored = _Notes()  # of the input of a cached layer the tensor that the layer holds
        for name, parameter in parameters.items():
            self._names.put(parameter, _Named(name))

    def call(self, model: Callable[..., Any], inputs: AnyInputs) -> Any:
        """The output of a model on inputs, recorded."""
        self._rows = len(inputs)
        for tensor in tensors_of(inputs):
            self._origins.put(tensor, (True, False))
        with self:
            out = called(model, inputs)
        self.row_shape = tuple(out.shape[1:])
        return out

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the call and record it."""
        kwargs = kwargs or {}
        if func in _METADATA:
            return func(*args, **kwargs)
        if func in COMPOSITES:
            with self:
                out = COMPOSITES[func](*args, **kwargs)
            if out is not NotImplemented:
                return out
        tensors = _tensors((args, kwargs))
        met = [t for t in tensors if self._names.get(t) is not None]
        run = self._linear if func is F.linear else func
        out = run(*args, **kwargs)
        self.reads_integers |= func in _LOOKUPS or func in _CASTS
        rowwise = self._note_origins(func, tensors, out, bool(met))
        if not met or self._is_transpose(func, args, kwargs, out) or self._is_entry(func, args, kwargs, out):
            return out
        if self.copy_views and isinstance(out, Tensor) and out._is_view() and not _is_in_place(func):
            out = out.clone()
            self._origins.put(out, (True, False))
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in _tensors(out))):
            self.silent.update(self._names.get(t).name for t in met)
        elif rowwise:
            self._record(func, args, kwargs, out, met)
        else:
            self._derive(out, met)
        return out

    def _note_origins(self, func: Callable[..., Any], tensors: list[Tensor], out: Any, moving: bool) -> bool:
        """Note what the outputs of a call come from; whether they have the rows among their axes."""
        origins = [o for o in map(self._origins.get, tensors) if o is not None]
        rowwise = any(o[0] for o in origins) or self._makes_rows(func, out)
        moving = moving or any(o[1] for o in origins)
        if rowwise or moving:
            for t in _tensors(out):
                if t.is_floating_point():
                    self.types.add(t.dtype)
                was = self._origins.get(t) or (False, False)
                self._origins.put(t, (rowwise or was[0], moving or was[1]))
        return rowwise

    def _makes_rows(self, func: Callable[..., Any], out: Any) -> bool:
        """Whether a call makes a tensor that may have the rows among its axes from none that has."""
        makes = func in _CONSTRUCTORS or func in EXPANSIONS
        return makes and isinstance(out, Tensor) and self._rows in out.shape

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """``F.linear``, by the layer's cache where it has one."""
        named = self._names.get(weight)
        call = None if named is None or named != _Named(named.name) else self._cached.get(named.name)
        output = None if call is None else call(input, weight, bias)
        if call is None or output is None:
            return product(input, weight, bias)
        self._stored.put(input, call.input)
        return output

    @property
    def overwritten(self) -> bool:
        """Whether an output that is a view was written into: its edge has left the graph, run again with copies."""
        return any(view._version != version for view, version in self._views)

    def _is_transpose(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        """Whether the call exchanges the last two axes of a parameter, which is noted."""
        if func not in _TRANSPOSES or kwargs or len(args) == 0 or args[0].ndim not in (2, 3):
            return False
        named, ndim = self._names.get(args[0]), args[0].ndim
        exchanged = {a % ndim for a in args[1:]} if len(args) > 1 else set(range(ndim))
        if named is None or exchanged != {ndim - 2, ndim - 1} or (ndim == 3 and func in _REVERSALS):
            return False
        self._names.put(out, replace(named, transposed=not named.transposed))
        return True

    def _is_entry(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> bool:
        """Whether the call takes matrices out of a parameter with three axes, which is noted."""
        of = args[0] if args and isinstance(args[0], Tensor) and args[0].ndim == 3 else None
        named = None if of is None else self._names.get(of)
        if of is None or named is None or kwargs or not all(t.requires_grad for t in _tensors(out)):
            return False
        if func is Tensor.__getitem__:
            entries = [_number(args[1])]
        elif func in _SELECTIONS and len(args) == 3 and args[1] in (0, -3):
            entries = [_number(args[2])]
        elif func in _UNBINDINGS and len(args) == 1:
            entries = list(range(len(of)))
        else:
            return False
        if None in entries:
            return False
        for entry, tensor in zip(entries, _tensors(out), strict=True):
            assert entry is not None
            self._names.put(tensor, replace(named, entry=entry % len(of)))
        return True

    def _derive(self, out: Any, met: list[Tensor]) -> None:
        """Name what a call makes of parameters alone."""
        sources = tuple(dict.fromkeys(self._names.get(t).name for t in met))
        for tensor in _tensors(out):
            if tensor.requires_grad:
                name = f"{DERIVED}{len(self.derived)}"
                self.derived[name] = Derived(tensor, tensor._version, sources)
                self._names.put(tensor, _Named(name))

    def _give_up(self, tensors: Iterable[Tensor]) -> None:
        """Mark the parameters that tensors are computed from as opaque."""
        names = [named.name for named in map(self._names.get, tensors) if named is not None]
        while names:
            name = names.pop()
            if name in self.derived:
                names.extend(self.derived[name].sources)
            else:
                self.opaque.add(name)

    def _record(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, met: list[Tensor]
    ) -> None:
        """Record what a call that met parameters makes of them."""
        recognize = self._recognizers.get(func)
        usable = isinstance(out, Tensor) and out.ndim > 0 and not out.is_complex()
        parts: list[Part] | None = None
        if recognize is not None and usable and not (_is_in_place(func) and out._is_view()):
            parts = recognize(*args, **kwargs)
        if parts is None or not {id(t) for t in met if t.requires_grad} <= {id(p.parameter) for p in parts}:
            self._give_up(met)
            return
        edge = get_gradient_edge(out)
        if out._is_view():
            self._views.append((out.detach(), out._version))
        for part in parts:
            named = self._names.get(part.parameter)
            if named is None:  # frozen, or no parameter at all
                continue
            if (part.parameter.ndim == 3 and named.transposed) or (
                named.entry is not None and not part.layer.takes_entries
            ):
                self._derive(part.parameter, [part.parameter])
                named = self._names.get(part.parameter)
            name, transposed = named.name, named.transposed
            layer, x = part.layer.transposed() if transposed else part.layer, part.input
            if layer is not None and named.entry is not None:
                layer = layer.of_entry(named.entry)
            if layer is None or (x is not None and x.is_complex()):
                self._give_up([part.parameter])
                continue
            shape = tuple(out.shape)
            if x is None:
                self.uses.append(Use(name, layer, None, edge, shape))
                continue
            stored, origin = self._stored.get(x), self._origins.get(x)
            stored, is_fixed = x.detach() if stored is None else stored, origin is None or not origin[1]
            plain = is_fixed and not x.requires_grad and func is F.linear and not transposed and x.ndim == 2
            is_cacheable = plain and named.entry is None and name not in self.derived
            self.uses.append(Use(name, layer, stored, edge, shape, x._version, is_fixed, is_cacheable))


def _is_in_place(func: Callable[..., Any]) -> bool:
    """Whether a function of torch writes into its first argument."""
    name = getattr(func, "__name__", "")
    return (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")


#: What names of derived tensors start with; no parameter's name does.
DERIVED = "~"

#: Calls that make tensors of a shape.
_CONSTRUCTORS = {
    torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.eye,
    Tensor.new_zeros, Tensor.new_ones, Tensor.new_empty, Tensor.new_full,
}  # fmt: skip

_TRANSPOSES = {Tensor.t, torch.t, Tensor.T.__get__, Tensor.mT.__get__, Tensor.transpose, torch.transpose}  # type: ignore[attr-defined]

#: Those that reverse all axes.
_REVERSALS = {Tensor.t, torch.t, Tensor.T.__get__}  # type: ignore[attr-defined]

_SELECTIONS = {Tensor.select, torch.select}

_UNBINDINGS = {Tensor.unbind, torch.unbind}

_LOOKUPS = {F.embedding, F.embedding_bag, F.one_hot, torch.embedding}

#: Calls by which a model says that it takes integers for amounts.
_CASTS = {
    *(Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16, Tensor.to, Tensor.type, Tensor.type_as),
    *(Tensor.div, Tensor.true_divide, Tensor.__truediv__, torch.div, torch.true_divide),
}

#: Calls that read a parameter's shape or place and nothing of its values.
_METADATA = {
    Tensor.size,
    Tensor.dim,
    Tensor.numel,
    Tensor.is_floating_point,
    *(getattr(Tensor, a).__get__ for a in ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda", "layout")),
}


def _number(index: Any) -> int | None:
    """An index as a number, one of a tensor without axes too; None for slices, masks and several."""
    if isinstance(index, Tensor) and index.ndim == 0 and not index.is_floating_point() and index.dtype != torch.bool:
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in a value, and in the lists, tuples and dictionaries that it is made of."""
    found: list[Tensor] = []
    _add_tensors(value, found)
    return found


def _add_tensors(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
    elif isinstance(value, list | tuple):
        for part in value:
            _add_tensors(part, found)
    elif isinstance(value, dict):
        for part in value.values():
            _add_tensors(part, found)
