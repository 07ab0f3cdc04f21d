"""Every check of a model on inputs that makes its tangent kernel well defined, and what the checks found."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whichmin.errors import DataError, ModelError
from whichmin.tangent.factors import Captured, capture
from whichmin.tangent.features import Metric
from whichmin.tangent.model import evaluate, finite, trainable

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)


@dataclass(frozen=True, eq=False)
class Examination:
    """What two rows of the inputs tell of a model.

    Attributes:
        model: the network.
        X: the inputs, (n, …).
        parameters: its trainable parameters.
        rows: the first row and the last.
        sample: the model's run on them.
    """

    model: nn.Module
    X: Tensor
    parameters: dict[str, nn.Parameter]
    rows: list[int]
    sample: Captured

    @property
    def outputs(self) -> int:
        """C, the number of outputs of a row."""
        return self.sample.outputs.shape[1]

    @property
    def opaque(self) -> tuple[str, ...]:
        """Parameters whose use is not recognized, in the model's order."""
        return tuple(n for n in self.parameters if n in self.sample.opaque)

    @property
    def cacheable(self) -> list[str]:
        """Weights of dense layers that are used once, on inputs that no parameter moves (see ``cached_layer``)."""
        names = [u.parameter for u in self.sample.uses]
        return [u.parameter for u in self.sample.uses if u.is_cacheable and names.count(u.parameter) == 1]

    def bytes_per_row(self, form: Collection[str] = ()) -> int:
        """What the features of one row take: inputs and gradients at every use, gradients of parameters in ``form``."""
        n, C = self.sample.outputs.shape
        item = self.sample.outputs.element_size()
        formed = C * item * sum(self.parameters[name].numel() for name in {*self.opaque, *form})
        if set(form) == set(self.parameters):
            return formed
        total = n * formed
        for use in self.sample.uses:
            x = use.input
            total += (0 if x is None else x.numel() * x.element_size()) + C * math.prod(use.shape) * item
        return 2 * total // n + 1  # as much again for what autograd keeps

    def check_rows(self, outputs: Tensor | None = None) -> None:
        """Refuse models whose output for a row depends on the other rows, or on the call.

        Args:
            outputs: f(X) as another call gave it, (n, C); None to evaluate three rows for it.

        Raises:
            ModelError: two calls differ, or a row's output changes with the rows around it.
        """
        model, X, rows, sampled = self.model, self.X, self.rows, self.sample.outputs.detach()
        with torch.no_grad():
            if outputs is None:
                outputs, rows, sampled = evaluate(model, X[:3]), [0], sampled[:1]
            out = outputs.detach()
            slack = 50 * torch.finfo(out.dtype).eps ** 0.75 * (float(out.abs().max()) + 1e-30)

            def differ(a: Tensor, b: Tensor) -> bool:
                return float((a - b).abs().max()) > slack

            suspicious = differ(out[rows], sampled)
            if not suspicious and len(X) <= len(self.rows):
                suspicious = differ(evaluate(model, X[:1]), out[:1])
            if not suspicious:
                return
            random = differ(evaluate(model, X[self.rows]), self.sample.outputs.detach())
        if random:
            raise ModelError(
                "two calls of the model on the same inputs differ: something in it is random. Call model.eval(), or "
                "take the randomness (functional dropout, noise) out."
            )
        raise ModelError(
            "the model's output for a row depends on the other rows of the batch (batch statistics, attention across "
            "rows?): each row must be a function of its own input for a tangent kernel to exist."
        )

    def agrees(self, K: Tensor, metric: Metric | None = None, other: Examination | None = None) -> bool:
        """Whether a kernel is what plain autograd says, for ⟨Jᵀc, D J(other)ᵀc⟩ with mixed outputs c.

        Args:
            K: that of the sampled rows, (r₁·C, r₂·C).
            metric: D; None is the identity.
            other: of the second inputs; None where they are the same.

        Cost: a small backward pass, two for other inputs.
        """
        c, left = self._pulled()
        d, right = (c, left) if other is None else other._pulled()
        plain = 0.0
        for name, g in left.items():
            h = right.get(name)
            if h is not None:
                weight = 1.0 if metric is None else metric[name]
                g, weight = (g * weight, 1.0) if isinstance(weight, Tensor) else (g, weight)
                plain += weight * float(torch.dot(g.flatten(), h.flatten()))
        terms = c.reshape(-1, 1) * K * d.reshape(1, -1)
        scale = max(float(terms.abs().sum()), 1e-300)
        return abs(plain - float(terms.sum())) <= torch.finfo(K.dtype).eps ** 0.5 * scale

    def _pulled(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Some c, (r, C), and Jᵀc by parameter, from the sample's graph.

        c is of mixed signs and adds up to zero over no rows, which would hide what they have in common.
        """
        outputs = self.sample.outputs
        n, C = outputs.shape
        c = torch.tensor([[(-1.0) ** (i + d) * (1 + d / 2) / (1 + i / 2) for d in range(C)] for i in range(n)]).to(
            outputs
        )
        grads = torch.autograd.grad(outputs, list(self.parameters.values()), c, retain_graph=True, allow_unused=True)
        return c, {name: g for name, g in zip(self.parameters, grads, strict=True) if g is not None}


def examine(model: nn.Module, X: Tensor, *, outputs: int | None = None) -> Examination:
    """Check a model on inputs, by a forward pass on two rows of them.

    Args:
        model: the network.
        X: the inputs, (n, …), at least one row.
        outputs: how many outputs a row must have; None for any number.

    Raises:
        ModelError: BatchNorm in training mode, active dropout, no trainable parameters, integers that nothing looks up,
            outputs that are not finite, not (n,) or (n, C), or of another number than the targets.
    """
    check_modules(model)
    parameters = trainable(model)
    rows = sorted({0, len(X) - 1})
    sample = capture(model, parameters, X[rows])
    if not (X.is_floating_point() or sample.reads_integers):
        raise ModelError(
            f"X is {X.dtype} and the network {type(model).__name__} has no embedding that looks integers up: pass "
            "X.float() (and scale it, pixels by 1/255)."
        )
    finite(sample.outputs, "X")
    if outputs is not None and sample.outputs.shape[1] != outputs:
        raise ModelError(
            f"the model has {sample.outputs.shape[1]} outputs per row and the targets have {outputs}: change the last "
            "layer or encode the targets alike."
        )
    return Examination(model, X, parameters, rows, sample)


def check_modules(model: nn.Module) -> None:
    """Refuse layers whose output for one row depends on the others or on chance.

    Raises:
        ModelError: a BatchNorm in training mode or an active dropout, named, with the remedy.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"got a {type(model).__name__}; expected a torch.nn.Module.")
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, _BATCH_NORMS) and (module.training or module.running_mean is None):
            remedy = "call model.eval()" if module.running_mean is not None else "give it running statistics"
            raise ModelError(
                f"layer {name!r} ({kind}) normalizes with the statistics of the batch, so that a row's output depends "
                f"on the other rows and no tangent kernel exists: {remedy}, or use LayerNorm or GroupNorm."
            )
        if isinstance(module, _DROPOUTS) and module.training and getattr(module, "p", 1.0) > 0:
            raise ModelError(
                f"layer {name!r} ({kind}) is random in training mode: call model.eval(), or set p=0, to get a network "
                "that is a function."
            )


def check_array(name: str, x: Tensor) -> None:
    """Refuse inputs that are empty or not finite.

    Raises:
        DataError: which, with the first such row.
    """
    if not isinstance(x, Tensor) or x.ndim == 0 or x.numel() == 0:
        got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"{name} is {got}; expected a tensor of at least one row, (n, …).")
    if x.is_floating_point() and not math.isfinite(float(x.abs().max())):
        row = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero()[0, 0])
        raise DataError(f"{name} holds NaN or infinity, first in row {row}: drop or impute those rows.")


def metric_weights(metric: Metric | None, parameters: Mapping[str, Tensor]) -> dict[str, Tensor | float] | None:
    """The metric D as a number or a tensor of the parameter's shape, for each trainable parameter; None for None.

    Raises:
        ModelError: names that do not match, shapes that do not broadcast, weights that are not positive and finite.
    """
    if metric is None:
        return None
    missing, extra = sorted(set(parameters) - set(metric)), sorted(set(metric) - set(parameters))
    if missing or extra:
        raise ModelError(
            "metric must name exactly the trainable parameters; "
            f"missing: {missing or 'none'}, unknown: {extra or 'none'}."
        )
    weights: dict[str, Tensor | float] = {}
    for name, parameter in parameters.items():
        value = torch.as_tensor(metric[name], dtype=parameter.dtype, device=parameter.device)
        if not bool((torch.isfinite(value) & (value > 0)).all()):
            raise ModelError(f"metric[{name!r}] must be positive and finite; its smallest is {float(value.min())}.")
        if value.numel() == 1:
            weights[name] = float(value)
            continue
        try:
            weights[name] = value.expand(parameter.shape)
        except RuntimeError as error:
            raise ModelError(
                f"metric[{name!r}] has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}."
            ) from error
    return weights
