"""Every check of a model on inputs that makes its tangent kernel well defined, and what the checks found."""

from __future__ import annotations

import ctypes
import logging
import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs, Inputs, is_floating, tensors_of
from whichmin.tangent.factors import Arranged, Captured, Route, arrange, capture, factorize
from whichmin.tangent.features import Metric
from whichmin.tangent.hooks import masks_of
from whichmin.tangent.ignored import check_all_matter
from whichmin.tangent.model import evaluate, finite, trainable
from whichmin.tangent.rows import EXACT

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)
_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)


#: How many rows of the inputs a model is tried on.
SAMPLED = 3
#: The state of a Mersenne twister: 624 words and a position among them.
_MT19937_BYTES = 4 * 625
#: A model of no more parameters than this is tried on all of a few rows: what its calls cost is the same.
SMALL = 2**20


@dataclass(frozen=True, eq=False)
class Examination:
    """What a few rows of the inputs tell of a model.

    Attributes:
        model: the network.
        X: the inputs, (n, …).
        parameters: its trainable parameters.
        rows: which rows, in no order.
        sample: the model's run on them, or on all.
        is_whole: whether it is that on all.
    """

    model: nn.Module
    X: AnyInputs
    parameters: dict[str, nn.Parameter]
    rows: list[int]
    sample: Captured
    is_whole: bool = False

    @property
    def outputs(self) -> int:
        """C, the number of outputs of a row."""
        return self.sample.outputs.shape[1]

    @cached_property
    def arranged(self) -> Arranged:
        """The uses of parameters in the sample with the rows of each; on some rows for a sum of the outputs."""
        if self.is_whole:
            return arrange(self.sample, self.parameters)
        outputs = self.sample.outputs
        weights = torch.linspace(1.0, 1.5, outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
        with torch.enable_grad():
            total = (outputs * weights).sum(1, keepdim=True)
        return arrange(replace(self.sample, outputs=total), self.parameters)

    @property
    def opaque(self) -> tuple[str, ...]:
        """Parameters whose use is not recognized, in the model's order."""
        return tuple(
            n for n in self.parameters if n in self.arranged.captured.opaque | (self.sample.silent - self.route.trusted)
        )

    @cached_property
    def route(self) -> Route:
        """How J is made where nothing speaks against it."""
        silent = self.sample.silent - self.arranged.captured.opaque
        is_told = len(self.rows) > 1 and self.arranged.is_regular  # one row is first wherever it is
        by_rows = self.arranged.by_rows if is_told else frozenset()
        route = Route(by_rows=by_rows, trusted=silent)
        return replace(route, trusted=silent - self.misjudged(route, silent)) if silent else route

    @property
    def cacheable(self) -> list[str]:
        """Weights of dense layers that are used once, on inputs that no parameter moves (see ``cached_layer``)."""
        names = [u.parameter for u in self.sample.uses]
        used = [u for u in self.sample.uses if u.is_cacheable and names.count(u.parameter) == 1]
        return [u.parameter for u in used if not self.parameters[u.parameter]._backward_hooks]

    def arranged_by(self, route: Route) -> Arranged | None:
        """What a run on all inputs by a route would give, where it was made."""
        is_same = self.is_whole and route == self.route and not self.sample.silent
        return self.arranged if is_same else None

    def bytes_per_row(self, form: Collection[str] = ()) -> int:
        """What the features of one row take: inputs and gradients at every use, gradients of parameters in ``form``."""
        n, C = self.sample.outputs.shape
        item = self.sample.outputs.element_size()
        names = {*self.sample.opaque, *self.sample.woven, *form}
        formed = C * item * sum(self.parameters[name].numel() for name in names)
        if set(form) == set(self.parameters):
            return formed
        total = n * formed
        for use in self.sample.uses:
            x = use.input
            total += (0 if x is None else x.numel() * x.element_size()) + C * math.prod(use.shape) * item
        return 2 * total // n + 1  # as much again for what autograd keeps

    def bytes_kept(self, form: Collection[str] = ()) -> int:
        """What is left of a row's features where each parameter is kept in its smaller form (see ``compress``)."""
        n, C = self.sample.outputs.shape
        item = self.sample.outputs.element_size()
        formed = {name: n * C * p.numel() * item for name, p in self.parameters.items()}
        factors: dict[str, int] = {}
        for use in self.sample.uses:
            entries = C * math.prod(use.shape) + (0 if use.input is None else use.input.numel())
            factors[use.parameter] = factors.get(use.parameter, 0) + entries * item
        always = {*self.sample.opaque, *self.sample.woven, *form}
        kept = (f if n in always else min(f, factors.get(n, 0)) for n, f in formed.items())
        return sum(kept) // n + 1

    def check_rows(self, outputs: Tensor | None = None) -> None:
        """Refuse models whose output for a row depends on the other rows, or on the call.

        Args:
            outputs: f(X) as another call gave it, (n, C); None to evaluate some rows for it.

        Raises:
            ModelError: two calls differ, or a row's output changes with the rows around it.
        """
        model, X, sampled = self.model, self.X, (self._plain if self.is_whole else self.sample.outputs).detach()
        with torch.no_grad():
            if outputs is None:
                more = [i for i in range(min(len(X), 2 * SAMPLED)) if i not in self.rows][:2]
                rows = list(range(len(self.rows)))
                out = evaluate(model, X[[*sorted(self.rows), *more]]).detach()
                out = out[rows][torch.tensor(self.rows).argsort().argsort().to(out.device)]
            else:
                out = outputs.detach()[self.rows]
            slack = 50 * self.eps**0.75 * (float(out.abs().max()) + 1e-30)

            def differ(a: Tensor, b: Tensor) -> bool:
                return not float((a - b).abs().max()) <= slack

            suspicious = differ(out, sampled)
            if not suspicious and len(X) <= SAMPLED:
                suspicious = differ(evaluate(model, X[self.rows[:1]]), sampled[:1])
            if not suspicious:
                return
            random = differ(evaluate(model, X[self.rows]), sampled)
        if random:
            raise ModelError(
                "two calls of the model on the same inputs differ: something in it is random, or it changes when it is "
                "called. Call model.eval(), or take the randomness (functional dropout, noise) out."
            )
        raise ModelError(
            "the model's output for a row depends on the other rows of the batch, or on their order (batch statistics, "
            "attention across rows?): each row must be a function of its own input for a tangent kernel to exist."
        )

    @cached_property
    def eps(self) -> float:
        """The rounding of the coarsest floating-point type that the network computes in."""
        types = {p.dtype for p in self.parameters.values()} | {self.sample.outputs.dtype}
        if self.sample.autocast:
            types.add(torch.bfloat16)
        types |= {t.dtype for t in tensors_of(self.X) if t.is_floating_point()}
        return max(torch.finfo(t).eps for t in types)

    def agrees(self, K: Tensor, metric: Metric | None = None, other: Examination | None = None) -> bool:
        """Whether a kernel is what plain autograd says: cᵀK d = ⟨Jᵀc, D J(other)ᵀd⟩ with mixed outputs c and d.

        Once with weights of both signs, which tell differences between rows, and once with positive ones, which tell
        what rows have in common.

        Args:
            K: that of the sampled rows, (r₁·C, r₂·C).
            metric: D; None is the identity.
            other: of the second inputs; None where they are the same.

        Cost: two backward passes on a few rows; four for other inputs.
        """
        return all(self._agrees(K, metric, other, k) for k in range(2))

    def _agrees(self, K: Tensor, metric: Metric | None, other: Examination | None, k: int) -> bool:
        c, left = self.pulled(k)
        d, right = (c, left) if other is None else other.pulled(k)
        plain = 0.0
        for name, g in left.items():
            h = right.get(name)
            if h is not None:
                weight = 1.0 if metric is None else metric[name]
                g, weight = (g * weight, 1.0) if isinstance(weight, Tensor) else (g, weight)
                plain += weight * float(torch.dot(g.flatten(), h.flatten()))
        terms = c.reshape(-1, 1).to(K) * K * d.reshape(1, -1).to(K)
        scale = max(float(terms.abs().sum()), abs(plain), 1e-300)
        return abs(plain - float(terms.sum())) <= self.eps**0.5 * scale

    def pulled(self, k: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Some c, (r, C), and Jᵀc by parameter as plain autograd gives it on the sampled rows.

        Args:
            k: 0 for weights of both signs, 1 for positive ones.
        """
        outputs = self._plain
        generator = torch.Generator().manual_seed(k)
        c = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
        c = (0.5 + c.abs() if k else c).to(outputs)
        if not outputs.requires_grad:
            return c, {}
        grads = torch.autograd.grad(outputs, list(self.parameters.values()), c, retain_graph=True, allow_unused=True)
        return c, {name: g for name, g in zip(self.parameters, grads, strict=True) if g is not None}

    def misjudged(self, route: Route, names: Collection[str] | None = None) -> frozenset[str]:
        """Parameters, all or some, whose gradients by ``route`` differ from plain autograd on the sampled rows."""
        factors = factorize(self.model, self.parameters, self.X[self.rows], route)
        wrong = set()
        for k in range(2):
            c, plain = self.pulled(k)
            for name, p in self.parameters.items():
                if names is not None and name not in names:
                    continue
                g = plain.get(name, torch.zeros_like(p))
                whole = factors.per_example(name, p)
                if whole is None:
                    whole = g.new_zeros((c.shape[1], c.shape[0], *p.shape))
                mine = torch.einsum("nc,cn...->...", c.to(whole), whole)
                if float((mine - g).norm()) > self.eps**0.5 * max(float(g.norm()), float(mine.norm())):
                    wrong.add(name)
        return frozenset(wrong)

    @cached_property
    def _plain(self) -> Tensor:
        """The model's outputs on the sampled rows, with the graph that autograd makes by itself."""
        with torch.enable_grad():
            return evaluate(self.model, self.X[self.rows])


def by_first_right_route(
    examination: Examination, attempt: Callable[[Route], Result | None], form: Collection[str] = ()
) -> Result:
    """What comes of the fastest way to make J that is right.

    Args:
        examination: of the model.
        attempt: what is computed by a way; None where it turned out wrong.
        form: parameters whose per-example gradients are wanted from the start.

    Raises:
        ModelError: no way is right.
    """
    route = replace(examination.route, form=examination.route.form | set(form))
    result = attempt(route)
    if result is None and route.by_rows and not examination.is_whole:  # there rows were looked for in every call
        logger.info("the kernel differs from plain autograd: rows are looked for in every call")
        route = replace(route, by_rows=frozenset())
        result = attempt(route)
    everything = frozenset(examination.parameters)
    if result is None and route.form != everything:
        wrong = examination.misjudged(route) or everything
        if not wrong <= route.form:
            logger.warning(
                "what layers say of %s differs from plain autograd: per-example gradients", ", ".join(sorted(wrong))
            )
            route = replace(route, form=route.form | wrong)
            result = attempt(route)
    if result is None:
        logger.warning("the kernel still differs from plain autograd: gradients of all parameters, row by row")
        route = replace(route, form=everything, one_by_one=True)
        result = attempt(route)
    if result is None:
        wrong = sorted(examination.misjudged(route))
        raise ModelError(
            f"no way of computing the tangent kernel of {type(examination.model).__name__} agrees with plain autograd "
            f"on a few rows (parameters {', '.join(wrong) or 'unknown'}): something in it depends on the other rows, "
            "on their number, or on state that changes from call to call. Make forward a function of its input alone."
        )
    return result


def examine(
    model: nn.Module,
    X: AnyInputs,
    *,
    outputs: int | None = None,
    row_shape: tuple[int, ...] | None = None,
    whole: bool = False,
) -> Examination:
    """Check a model on inputs, by a forward pass on a few rows of them.

    Args:
        model: the network.
        X: the inputs, (n, …), at least one row.
        outputs: how many outputs a row must have; None for any number.
        row_shape: the axes of a row's targets; None for any. Where either has a single axis it is taken as flattened.
        whole: whether the pass may be one over all rows of small inputs, whose uses of parameters are then known.

    Raises:
        ModelError: BatchNorm in training mode, active dropout or other randomness, no trainable parameters, integers
            that nothing looks up, outputs that are not finite, not (n, …), or of another number or other axes than
            the targets; an argument that the model ignores.
    """
    check_modules(model)
    parameters = trainable(model)
    masks_of(parameters)
    generator = torch.Generator().manual_seed(len(X))
    rows = torch.randperm(len(X), generator=generator)[:SAMPLED].tolist()
    before = _random_states(X.device)
    whole = whole and len(X) <= EXACT and sum(p.numel() for p in parameters.values()) <= SMALL
    sample = capture(model, parameters, X if whole else X[rows])
    if _random_states(X.device) != before:
        raise ModelError(
            f"the model {type(model).__name__} draws random numbers when it is called: call model.eval(), or take the "
            "randomness (functional dropout, stochastic depth, noise) out, to get a network that is a function."
        )
    if not (is_floating(X) or sample.reads_integers):
        raise ModelError(
            f"X is {tensors_of(X)[0].dtype} and the network {type(model).__name__} has no embedding that looks "
            "integers up: pass X.float() (and scale it, pixels by 1/255)."
        )
    finite(sample.outputs, "X")
    if outputs is not None and sample.outputs.shape[1] != outputs:
        raise ModelError(
            f"the model has {sample.outputs.shape[1]} outputs per row and the targets have {outputs}: change the last "
            "layer or encode the targets alike."
        )
    if row_shape is not None and _differ(sample.row_shape, row_shape):
        raise ModelError(
            f"the model returns {sample.row_shape} for a row and its targets are {row_shape}: move the axes of one, "
            "such as y.movedim(-1, 1), or Task(…, output=lambda out: out.movedim(1, -1))."
        )
    if isinstance(X, Inputs) and len(tensors_of(X)) > 1:
        check_all_matter(model, X, rows)
    return Examination(model, X, parameters, rows, sample, whole)


def _differ(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two arrays of as many numbers have other axes, those of size one and arrays of a single axis aside."""
    a, b = (tuple(size for size in shape if size != 1) for shape in (a, b))
    return a != b and len(a) > 1 and len(b) > 1


def _random_states(device: torch.device) -> tuple[object, ...]:
    """The states of all random generators that a model may draw from."""
    states: list[object] = [torch.get_rng_state().numpy().tobytes(), random.getstate()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return (*states, _numpy_state())


def _numpy_state() -> bytes:
    """That of the generator of ``np.random``; read where it lies, since numpy takes 0.1 ms to make a list of it."""
    generator = np.random.get_bit_generator()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(generator, np.random.MT19937):
        return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)
    return repr(generator.state).encode()


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
