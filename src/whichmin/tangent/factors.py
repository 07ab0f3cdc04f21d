"""What J of some rows is made of: the inputs and the output gradients of every use of a parameter."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whichmin.inputs import AnyInputs
from whichmin.tangent.autograd import per_example_gradients
from whichmin.tangent.cached_layer import CachedCall
from whichmin.tangent.capture import Capture, Derived
from whichmin.tangent.hooks import masks_of
from whichmin.tangent.layers.base import Factor, Use
from whichmin.tangent.layers.bias import Bias, aligned_to
from whichmin.tangent.layers.gain import Gain
from whichmin.tangent.model import evaluate
from whichmin.tangent.rows import (
    EXACT,
    Arrangement,
    Layout,
    arrangement,
    exact_layout,
    exact_marks,
    marks,
    possible_layouts,
    rows_of,
)

#: Per-example gradients of so many entries are taken through a derived tensor at once.
PULLED_AT_ONCE = 2**24


@dataclass(frozen=True)
class Route:
    """How J is made.

    Attributes:
        form: parameters whose per-example gradients are formed whatever layer uses them.
        one_by_one: whether these are formed by a backward pass for each, without ``vmap``.
        by_rows: signatures of uses whose rows are known to stand where the signature says.
        trusted: parameters whose gradients were seen to be right although some of their calls had no graph.
    """

    form: frozenset[str] = frozenset()
    one_by_one: bool = False
    by_rows: frozenset[tuple[object, ...]] = frozenset()
    trusted: frozenset[str] = frozenset()


#: Nothing is known of the uses, and whatever layer is recognized is used.
BY_LAYERS = Route()


@dataclass(frozen=True, eq=False)
class Captured:
    """A forward pass and the uses of parameters in it.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        uses: where parameters, and tensors derived from them, were recognized.
        opaque: the names of those that were not.
        silent: parameters that may have gradients that were not seen (see ``Capture``).
        derived: tensors computed from parameters that some use meets.
        reads_integers: whether integers were looked up (see ``Capture``).
        autocast: whether the model itself switches autocast on (see ``Capture``).
        row_shape: of a row's outputs as the model returns them (see ``Capture``).
    """

    outputs: Tensor
    uses: tuple[Use, ...]
    opaque: frozenset[str]
    silent: frozenset[str]
    derived: dict[str, Derived]
    reads_integers: bool
    autocast: bool
    row_shape: tuple[int, ...]

    @property
    def woven(self) -> frozenset[str]:
        """Parameters that a used tensor is computed from."""
        return self.parameters_of(u.parameter for u in self.uses if u.parameter in self.derived)

    def parameters_of(self, names: Iterable[str]) -> frozenset[str]:
        """The parameters among names, and those that the derived tensors among them are computed from."""
        found, left = set(), list(names)
        while left:
            name = left.pop()
            if name in self.derived:
                left.extend(self.derived[name].sources)
            else:
                found.add(name)
        return frozenset(found)


@dataclass(frozen=True, eq=False)
class Arranged:
    """The uses of parameters with their rows first.

    Attributes:
        captured: the forward pass; parameters whose rows could not be told are opaque.
        by_parameter: the uses of each parameter, and of tensors derived from parameters.
        by_rows: signatures of the uses whose rows stand in a layout that has a name.
        is_regular: whether all that matter do: else rows may stand elsewhere on other inputs, as tokens of experts do.
    """

    captured: Captured
    by_parameter: dict[str, list[Factor]]
    by_rows: frozenset[tuple[object, ...]]
    is_regular: bool


@dataclass(frozen=True, eq=False)
class Factors:
    """What J of some rows is made of.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        by_parameter: the uses of each parameter that was recognized.
        formed: per-example gradients (C, n, *shape) of the other parameters.
        opaque: the parameters that were not recognized, for which these took backward passes for every row.
        by_rows: signatures of the uses whose rows stand in a layout that has a name.
        dtype: the floating-point type of their products.
    """

    outputs: Tensor
    by_parameter: dict[str, list[Factor]]
    formed: dict[str, Tensor]
    opaque: frozenset[str]
    by_rows: frozenset[tuple[object, ...]]
    dtype: torch.dtype

    def per_example(self, name: str, parameter: Tensor) -> Tensor | None:
        """∂f_c(x_i)/∂parameter, (C, n, *shape); None where no output depends on it."""
        if name in self.formed:
            return self.formed[name]
        uses = self.by_parameter.get(name)
        return None if uses is None else per_example(uses, tuple(parameter.shape))


def capture(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    X: AnyInputs,
    form: Collection[str] = (),
    cached: Mapping[str, CachedCall] | None = None,
) -> Captured:
    """Run the model on X and record how it uses its parameters, those in ``form`` as opaque ones."""
    with torch.enable_grad():
        mode = Capture(parameters, cached=cached)
        outputs = evaluate(model, X, mode.call)
        if mode.overwritten:
            mode = Capture(parameters, copy_views=True, cached=cached)
            outputs = evaluate(model, X, mode.call)
    captured = Captured(
        outputs,
        tuple(mode.uses),
        frozenset(),
        frozenset(),
        mode.derived,
        mode.reads_integers,
        mode.autocast,
        mode.row_shape,
    )
    if mode.silent:
        captured = replace(captured, silent=captured.parameters_of(mode.silent))
    spoiled = {u.parameter for u in mode.uses if not u.intact}
    spoiled |= {n for n, d in mode.derived.items() if d.tensor._version != d.version}
    return give_up(captured, mode.opaque | set(form) | spoiled)


def give_up(captured: Captured, names: Collection[str]) -> Captured:
    """The same with parameters, or what derived tensors are computed from, as opaque ones."""
    opaque = captured.opaque | captured.parameters_of(names)
    if opaque == captured.opaque:
        return captured
    uses = tuple(u for u in captured.uses if not captured.parameters_of([u.parameter]) <= opaque)
    return replace(captured, uses=uses, opaque=opaque)


def factorize(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    X: AnyInputs,
    route: Route = BY_LAYERS,
    cached: Mapping[str, CachedCall] | None = None,
    arranged: Arranged | None = None,
) -> Factors:
    """Run the model once on X and take the gradients at every use of a parameter: C backward passes.

    One more pass, to the uses alone, finds the rows of those whose layout is not known.
    Parameters that were used in a way that is not recognized, and those of ``route.form``, get per-example gradients.
    Layers that are cached are no part of the graph.

    Args:
        model: the network.
        parameters: its trainable parameters.
        X: the inputs.
        route: how J is made.
        cached: calls that are answered without their layer.
        arranged: what a run on X by this route gave, where there was one.
    """
    if arranged is None:
        captured = capture(model, parameters, X, route.form, cached)
        captured = give_up(captured, captured.silent - route.trusted)
        arranged = arrange(captured, parameters, route.by_rows)
    captured = arranged.captured
    outputs = captured.outputs
    dtype = outputs.dtype
    for p in parameters.values():
        dtype = torch.promote_types(dtype, p.dtype)
    by_parameter = {n: [_of_type(f, dtype) for f in factors] for n, factors in arranged.by_parameter.items()}
    masks = masks_of(parameters)
    formed = _formed(captured, by_parameter, parameters, masks)
    if captured.opaque:
        opaque = {n: p for n, p in parameters.items() if n in captured.opaque}
        gradients_of = per_example_gradients(model, opaque, X, one_by_one=route.one_by_one)
        formed |= {n: (g * masks[n] if n in masks else g).to(dtype) for n, g in gradients_of.items()}
    return Factors(outputs, by_parameter, formed, captured.opaque, arranged.by_rows, dtype)


def _of_type(factor: Factor, dtype: torch.dtype) -> Factor:
    """The factor in a floating-point type, itself where it is of this type."""
    use, x = factor.use, factor.use.input
    if x is not None and x.is_floating_point() and x.dtype != dtype:
        use = replace(use, input=x.to(dtype))
    elif factor.gradient.dtype == dtype:
        return factor
    return Factor(use, factor.gradient.to(dtype))


def _signature(k: int, use: Use, axes: int, layout: Layout, n: int) -> tuple[object, ...]:
    """What a use of a layout is known by when the model runs on another number of rows than n."""
    inner = use.shape[1:axes] if layout == "first" else math.prod(use.shape[:axes]) // n
    return (k, use.parameter, type(use.layer), use.shape[axes:], layout, inner)


def arrange(
    captured: Captured, parameters: Mapping[str, Tensor], known: frozenset[tuple[object, ...]] = frozenset()
) -> Arranged:
    """Take the gradients at every use of a parameter and bring their rows first.

    Args:
        captured: a forward pass.
        parameters: the trainable parameters.
        known: signatures of uses whose rows are known to stand where the signature says.
    """
    gradients = _output_gradients(captured.outputs, captured.uses)
    factors, by_rows = _arranged(captured, parameters, gradients, known)
    lost = {u.parameter for u, f in zip(captured.uses, factors, strict=True) if f is False}
    kept = give_up(captured, lost)
    by_parameter: dict[str, list[Factor]] = {}
    left = set(kept.uses)
    for use, factor in zip(captured.uses, factors, strict=True):
        if isinstance(factor, Factor) and use in left:
            by_parameter.setdefault(use.parameter, []).append(factor)
    is_regular = len(by_rows) == sum(isinstance(f, Factor) for f in factors)
    return Arranged(kept, by_parameter, by_rows, is_regular)


def _arranged(
    captured: Captured,
    parameters: Mapping[str, Tensor],
    gradients: Sequence[Tensor | None],
    known: frozenset[tuple[object, ...]],
) -> tuple[list[Factor | bool], frozenset[tuple[object, ...]]]:
    """A factor for every use, rows first; True where the output does not matter, False where rows cannot be told."""
    outputs, uses = captured.outputs, captured.uses
    n = len(outputs)
    factors: list[Factor | bool] = [True] * len(uses)
    by_rows, unknown = set(), []
    for k, (use, g) in enumerate(zip(uses, gradients, strict=True)):
        if g is None:
            continue
        axes = use.layer.positions(use.shape, _shape(use, captured, parameters))
        layouts = possible_layouts(use.shape, axes, n)
        layout: Layout | None = next((w for w in layouts if _signature(k, use, axes, w, n) in known), None)
        if layout is None or (layout == "first" and not _goes_by_rows(use, n)):
            unknown.append(k)
            continue
        by_rows.add(_signature(k, use, axes, layout, n))
        factors[k] = _by_layout(use, g, axes, layout, n)
    if unknown and n <= EXACT:
        unknown = _by_exact_marks(unknown, captured, parameters, gradients, factors, by_rows)
    if not unknown:
        return factors, frozenset(by_rows)
    weights = torch.linspace(1.0, 1.5, outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    marked = _marked(captured, unknown, marks(n, outputs)[:, None] * weights)
    for k, h in zip(unknown, marked, strict=True):
        use, g = uses[k], gradients[k]
        assert g is not None
        plain = torch.tensordot(weights.to(g), g, 1)
        shape = _shape(use, captured, parameters)
        factors[k], layout = _arrange(use, g, plain, torch.zeros_like(plain) if h is None else h, shape, n)
        if layout is not None:
            by_rows.add(_signature(k, use, use.layer.positions(use.shape, shape), layout, n))
    return factors, frozenset(by_rows)


def _marked(captured: Captured, which: Sequence[int], seed: Tensor) -> tuple[Tensor | None, ...]:
    """At some uses the gradient of a weighted sum of the outputs."""
    edges = [captured.uses[k].edge for k in which]
    return torch.autograd.grad(captured.outputs, edges, seed, retain_graph=True, allow_unused=True)


def _by_exact_marks(
    which: Sequence[int],
    captured: Captured,
    parameters: Mapping[str, Tensor],
    gradients: Sequence[Tensor | None],
    factors: list[Factor | bool],
    by_rows: set[tuple[object, ...]],
) -> list[int]:
    """Enter the factors of uses whose rows stand in a layout; those of which it cannot be told so are returned."""
    n, left = len(captured.outputs), []
    seed = exact_marks(captured.outputs)
    layouts: dict[tuple[int, int, int], Layout | None] = {}  # a weight and its bias have one output
    for k, h in zip(which, _marked(captured, which, seed), strict=True):
        use, g = captured.uses[k], gradients[k]
        assert g is not None
        axes = use.layer.positions(use.shape, _shape(use, captured, parameters))
        key = (id(use.edge.node), use.edge.output_nr, axes)
        if key not in layouts:
            layouts[key] = None if h is None else exact_layout(g, h, axes, seed)
        layout = layouts[key]
        if layout is None or (layout == "first" and not _goes_by_rows(use, n)):
            left.append(k)
            continue
        by_rows.add(_signature(k, use, axes, layout, n))
        factors[k] = _by_layout(use, g, axes, layout, n)
    return left


def _by_layout(use: Use, g: Tensor, axes: int, layout: Layout, n: int) -> Factor | bool:
    """The factor of a use whose rows stand in a layout; False where the layer cannot have them so."""
    if layout == "first":
        return Factor(use, g)
    return _permuted(use, g, axes, arrangement(layout, math.prod(use.shape[:axes]), n))


def _shape(use: Use, captured: Captured, parameters: Mapping[str, Tensor]) -> tuple[int, ...]:
    """That of the parameter, or of the derived tensor, of a use."""
    derived = captured.derived.get(use.parameter)
    return tuple((parameters[use.parameter] if derived is None else derived.tensor).shape)


def _goes_by_rows(use: Use, n: int) -> bool:
    return use.input is None or (use.input.ndim > 0 and len(use.input) == n)


def _arrange(
    use: Use, g: Tensor, plain: Tensor, marked: Tensor, shape: tuple[int, ...], n: int
) -> tuple[Factor | bool, Layout | None]:
    """The factor of a use with its rows first, False where they cannot be told, and their layout if it has a name.

    Args:
        use: the use.
        g: the gradients of the outputs at it, (C, *use.shape).
        plain: the gradient of a sum over rows and outputs there.
        marked: that of the same sum with marked rows.
        shape: that of the parameter.
        n: the number of rows.
    """
    axes = use.layer.positions(use.shape, shape)
    rows = rows_of(plain, marked, axes, n) if axes > 0 else None
    if rows is not None:
        layout = rows.layout(use.shape, axes)
        if layout == "first" and _goes_by_rows(use, n):
            return Factor(use, g), layout
        return _permuted(use, g, axes, rows.arrangement()), None if layout == "first" else layout
    if isinstance(use.layer, Bias | Gain) and use.layer.axes == "broadcast":
        for axis, size in enumerate(aligned_to(len(use.shape), shape)):
            if size != 1 or use.shape[axis] == 1 or axis == 0:
                continue
            rows = rows_of(plain.movedim(axis, 0), marked.movedim(axis, 0), 1, n)
            if rows is not None:
                moved = tuple(d for i, d in enumerate(use.shape) if i != axis)
                x = use.input
                if x is not None:
                    layer, x = use.layer.given(x, use.shape)
                    x = x.movedim(axis, 0)
                else:
                    layer = use.layer
                assert isinstance(layer, Bias | Gain)
                there = replace(
                    use, layer=replace(layer, row_axis=axis), input=x, shape=(use.shape[axis], *moved),
                    version=0 if x is None else x._version, is_cacheable=False,
                )  # fmt: skip
                return _permuted(there, g.movedim(axis + 1, 1), 1, rows.arrangement()), None
    return False, None


def _permuted(use: Use, g: Tensor, axes: int, by_rows: Arrangement) -> Factor | bool:
    """The factor with its positions by rows."""
    layer, x = use.layer, use.input
    if by_rows.index.shape[1] > 1 and not layer.takes_positions:
        return False
    if x is not None:
        layer, x = layer.given(x, use.shape)
        x = by_rows(x, axes)
    gradient = by_rows(g, axes, before=1)
    there = replace(
        use, layer=layer, input=x, shape=tuple(gradient.shape[1:]), version=0 if x is None else x._version,
        is_cacheable=False,
    )  # fmt: skip
    return Factor(there, gradient)


def _formed(
    captured: Captured,
    by_parameter: dict[str, list[Factor]],
    parameters: Mapping[str, nn.Parameter],
    masks: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Per-example gradients of parameters that are used through others or under a mask; their uses are taken out."""
    formed: dict[str, Tensor] = {}
    through = [n for n in reversed(list(captured.derived)) if n in by_parameter]
    pending: dict[str, Tensor] = {}
    for name in reversed(list(captured.derived)):
        own = by_parameter.pop(name, None)
        derived = captured.derived[name]
        total = pending.pop(name, None)
        if own is not None:
            whole = per_example(own, tuple(derived.tensor.shape))
            total = whole if total is None else total + whole
        if total is None:
            continue
        sources = [captured.derived[s].tensor if s in captured.derived else parameters[s] for s in derived.sources]
        for source, g in zip(derived.sources, _pull(derived.tensor, sources, total), strict=True):
            if g is not None:
                into = pending if source in captured.derived else formed
                into[source] = into[source] + g if source in into else g
    for name in {*(formed if through else ()), *masks}:
        own = by_parameter.pop(name, None)
        if own is not None:
            whole = per_example(own, tuple(parameters[name].shape))
            formed[name] = formed[name] + whole if name in formed else whole
        if name in masks and name in formed:
            formed[name] = formed[name] * masks[name]
    return {n: g for n, g in formed.items() if n not in captured.opaque}


def per_example(factors: Sequence[Factor], shape: tuple[int, ...]) -> Tensor:
    """∂f_c(x_i)/∂parameter, summed over its uses, (C, n, *shape)."""
    total: Tensor | None = None
    for factor in factors:
        part = factor.use.layer.gradient(factor, shape, 0, shape[0] if shape else 1)
        part = part.reshape(*part.shape[:2], *shape)
        total = part if total is None else total + part  # a part may be a view of a gradient
    assert total is not None
    return total


def _pull(derived: Tensor, sources: Sequence[Tensor], gradients: Tensor) -> list[Tensor | None]:
    """From gradients (C, n, *shape) of a derived tensor to those of what it is computed from."""
    C, n = gradients.shape[:2]
    flat = gradients.reshape(C * n, *derived.shape)
    step = max(1, PULLED_AT_ONCE // max(1, derived.numel()))
    parts: list[list[Tensor | None]] = []
    for lo in range(0, C * n, step):
        block = flat[lo : lo + step]
        options: dict[str, bool] = {"retain_graph": True, "allow_unused": True}
        try:
            parts.append(list(torch.autograd.grad(derived, sources, block, is_grads_batched=True, **options)))
        except RuntimeError:  # an operation without a batching rule
            rows = [torch.autograd.grad(derived, sources, g, **options) for g in block]
            parts.append([None if r[0] is None else torch.stack(r) for r in zip(*rows, strict=True)])  # type: ignore[arg-type]
    whole: list[Tensor | None] = []
    for k, source in enumerate(sources):
        pieces = [p[k] for p in parts]
        some = [g for g in pieces if g is not None]
        whole.append(torch.cat(some).reshape(C, n, *source.shape) if len(some) == len(pieces) else None)
    return whole


def _output_gradients(outputs: Tensor, uses: Sequence[Use]) -> list[Tensor | None]:
    """∂f_c/∂(output of each use), (C, n, …); None where the output does not matter."""
    edges = list({(id(u.edge.node), u.edge.output_nr): u.edge for u in uses}.values())
    if not edges or not outputs.requires_grad:
        return [None] * len(uses)
    columns = []
    for c in range(outputs.shape[1]):
        seed = torch.zeros_like(outputs)
        seed[:, c] = 1.0
        columns.append(torch.autograd.grad(outputs, edges, seed, retain_graph=True, allow_unused=True))
    stacked: dict[tuple[int, int], Tensor | None] = {}
    for k, edge in enumerate(edges):
        grads = [column[k] for column in columns]
        some = next((g for g in grads if g is not None), None)
        key = (id(edge.node), edge.output_nr)
        if some is None:
            stacked[key] = None
        elif len(grads) == 1:
            stacked[key] = some.unsqueeze(0)
        else:
            stacked[key] = torch.stack([torch.zeros_like(some) if g is None else g for g in grads])
    return [stacked[(id(u.edge.node), u.edge.output_nr)] for u in uses]
