"""What J of some rows is made of: the inputs and the output gradients of every use of a parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whichmin.inputs import AnyInputs
from whichmin.tangent.arrange import Arranged, arrange
from whichmin.tangent.autograd import per_example_gradients
from whichmin.tangent.cached_layer import CachedCall
from whichmin.tangent.captured import capture, give_up
from whichmin.tangent.hooks import masks_of
from whichmin.tangent.layers.base import Factor
from whichmin.tangent.per_example import formed_gradients, per_example
from whichmin.tangent.route import BY_LAYERS, Route


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
    formed = formed_gradients(captured, by_parameter, parameters, masks)
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
