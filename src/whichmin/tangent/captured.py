"""A forward pass and the uses of parameters that were seen in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whichmin.inputs import AnyInputs
from whichmin.tangent.cached_layer import CachedCall
from whichmin.tangent.capture import Capture, Derived
from whichmin.tangent.layers.base import Use
from whichmin.tangent.model import evaluate


@dataclass(frozen=True, eq=False)
class Captured:
    """A forward pass and the uses of parameters in it.

    Attributes:
        outputs: f, (n, C), with its autograd graph.
        uses: where parameters, and tensors derived from them, were recognized.
        opaque: the names of those that were not.
        silent: parameters that may have gradients that were not seen (see ``Capture``).
        derived: tensors computed from parameters that some use meets.
        reads_integers: whether integers were looked up or converted (see ``Capture``).
        types: the floating-point types that it is computed in (see ``Capture``).
        row_shape: of a row's outputs as the model returns them (see ``Capture``).
    """

    outputs: Tensor
    uses: tuple[Use, ...]
    opaque: frozenset[str]
    silent: frozenset[str]
    derived: dict[str, Derived]
    reads_integers: bool
    types: frozenset[torch.dtype]
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
        frozenset(mode.types),
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
