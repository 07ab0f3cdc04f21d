"""``tangent_kernel``: examine, plan, compute, check."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whichmin.checkpoint import Checkpoint, network_of
from whichmin.errors import InputError
from whichmin.inputs import AnyInputs, InputsLike, pair_of_inputs
from whichmin.kernels.layout import to_matrix
from whichmin.tangent.arrange import Arranged
from whichmin.tangent.checks import check_modules
from whichmin.tangent.compress import compressed, merged
from whichmin.tangent.context import own_context
from whichmin.tangent.contract import contract
from whichmin.tangent.copying import in_single_precision, without_shared_memory
from whichmin.tangent.examination import Examination
from whichmin.tangent.examine import examine
from whichmin.tangent.factors import Factors, factorize
from whichmin.tangent.fallback import by_first_right_route
from whichmin.tangent.features import Features
from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.memory import available_bytes, require, size
from whichmin.tangent.metric import Metric, metric_weights
from whichmin.tangent.model import finite
from whichmin.tangent.route import Route

logger = logging.getLogger(__name__)

#: Plans of fewer bytes are made without asking how much memory is free.
MODEST = 2**26
#: The network runs on as many rows at once as take so many bytes. Fewer rows make convolutions slow, more only take
#: memory: a ResNet-18 of width 16, 10 outputs, 100 rows, 14.7 s at 2**27, 12.9 at 2**28, 11.7 at 2**29, 13.8 at 2**30.
PASS_BYTES = 2**29
METHODS = ("auto", "layerwise", "jacobian")


@dataclass(frozen=True)
class KernelPlan:
    """How a kernel is computed.

    Attributes:
        method: ``layerwise`` or ``jacobian``.
        reason: why this one.
        rows_per_block: of how many rows J is held at once.
        rows_per_pass: on how many rows the network runs at once.
        n_bytes: what the plan needs at its peak, estimated.
        fallback: parameters whose per-example gradients were formed because their use was not recognized.
    """

    method: str
    reason: str
    rows_per_block: int
    rows_per_pass: int
    n_bytes: int
    fallback: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ComputedKernel:
    """A kernel and how it was computed.

    Attributes:
        values: K, (n1, n2, C, C).
        plan: the plan that was carried out.
    """

    values: Tensor
    plan: KernelPlan


def tangent_kernel(
    model: nn.Module | Checkpoint,
    x1: InputsLike,
    x2: InputsLike | None = None,
    *,
    method: str = "auto",
    metric: Metric | None = None,
) -> Tensor:
    """The empirical neural tangent kernel K(x, x') = J(x) D J(x')ᵀ, J = ∂f/∂θ over the trainable parameters.

    Args:
        model: any network whose rows are functions of their own inputs, or a checkpoint of a run.
        x1: inputs, (n1, …): a tensor, a mapping of tensors (keyword arguments), a tuple of tensors (positional ones),
            or the ``X`` of a task, which knows which output is meant.
        x2: inputs, (n2, …); x1 by default.
        method: ``layerwise`` (from each layer's inputs and output gradients; a parameter used in a way that is not
            recognized gets per-example gradients of its own), ``jacobian`` (per-example gradients of all parameters by
            ``torch.func``), or ``auto`` (layerwise, checked against plain autograd on sampled entries).
        metric: D: a positive number or tensor for each trainable parameter, by name; None is the identity.

    Returns:
        (n1, n2, C, C) in the network's type and on its device; outputs (n, …) are flattened to (n, C).

    Cost: layerwise, one forward and C backward passes and about n1·n2·C²·(the sum of the layer widths); the Jacobian is
    never formed. jacobian, n1·C backward passes and n1·n2·C²·P.

    Raises:
        ModelError: BatchNorm in training mode, active dropout, rows that depend on each other, outputs that vary from
            call to call or are not (n,) or (n, …), no trainable parameters, a metric that does not match.
        DataError: inputs that are empty or not finite.
        InputError: another method.
        MemoryPlanError: the plan does not fit; says what would.

    Jacot, Gabriel, Hongler, "Neural Tangent Kernel" (2018); the contraction as in Novak, Sohl-Dickstein, Schoenholz,
    "Fast Finite Width Neural Tangent Kernel" (2022).
    """
    return compute_kernel(network_of(model), x1, x2, method=method, metric=metric).values


def compute_kernel(
    model: nn.Module,
    x1: InputsLike,
    x2: InputsLike | None = None,
    *,
    method: str = "auto",
    metric: Metric | None = None,
) -> ComputedKernel:
    """As :func:`tangent_kernel`, with the plan that was carried out."""
    _check_method(method)
    x1, x2 = pair_of_inputs(x1, x2)
    with own_context():
        check_modules(model)
        model, x1, x2 = in_single_precision(without_shared_memory(model), x1, x2)
        left = right = examine(model, x1, whole=True)
        if x2 is not None and x2 is not x1:
            right = examine(model, x2, outputs=left.outputs, whole=True)
        weights = metric_weights(metric, left.parameters)
        form = frozenset(left.parameters if method == "jacobian" else ())
        reasons = ["sampled entries of a faster way differ from plain autograd"]
        reasons.append("asked for" if method != "auto" else _BY_LAYERS)

        def attempt(route: Route) -> ComputedKernel | None:
            plan = _plan(reasons.pop() if len(reasons) > 1 else reasons[0], left, right, route)
            computed = _compute(left, right, weights, route, plan)
            return computed if computed and _agrees(computed.values, left, right, weights) else None

        computed = by_first_right_route(left, attempt, replace(left.route, form=left.route.form | form))
        finite(computed.values, "the kernel")
        return computed


_BY_LAYERS = "per-layer inputs and output gradients give it without a Jacobian"


def _check_method(method: str) -> None:
    if method in ("matrixfree", "operator"):
        raise InputError(
            f"method is {method!r}, which is no tensor: write whichmin.kernel_operator(model, x1, x2) for the kernel "
            "as an operator."
        )
    if method not in METHODS:
        raise InputError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")


def _plan(reason: str, left: Examination, right: Examination, route: Route) -> KernelPlan:
    """How many rows to hold at once, and whether that fits at all."""
    n1, n2, C, form = len(left.X), len(right.X), left.outputs, route.form
    n, sets = max(n1, n2), 1 if left is right else 2
    item, device = left.sample.outputs.element_size(), left.sample.outputs.device
    copies = 1 if C == 1 else 2  # of the kernel, where it is laid out anew
    kernel = n1 * n2 * C * C * item * copies
    per_row = left.bytes_per_row(form)
    modest = kernel + sets * n * per_row
    free = available_bytes(device) if modest > MODEST else 2 * modest
    if modest > MODEST:
        smallest = math.isqrt(int(0.8 * free) // (C * C * item * copies))
        what = f"a kernel of {n1}·{C} by {n2}·{C}, {item} bytes an entry,"
        remedy = (
            f"At most {smallest} rows against {smallest} fit; or use whichmin.kernel_operator(model, x1, x2), which "
            "holds no kernel, or compute it in blocks, tangent_kernel(model, x1[a:b], x2[c:d])."
        )
        require(kernel + 2 * per_row, device, what, remedy)
    kept = left.bytes_kept(form)
    at_once = max(1, min(n, PASS_BYTES // per_row))
    budget = max(2 * kept, min((free - kernel) // 2, 2 * 2**30))
    rows = max(1, min(n, budget // (sets * kept)))
    rows = n if rows >= n else max(1, rows // 2)
    at_once = min(at_once, rows)
    needed = kernel + at_once * per_row + (sets * rows * kept if at_once < n else 0)
    everything = len(form) == len(left.parameters)
    fallback = () if everything else tuple(n for n in left.parameters if n in {*left.opaque, *form})
    method = "jacobian" if everything else "layerwise"
    if route.one_by_one:
        reason += "; row by row"
    if fallback:
        reason += f"; per-example gradients for {', '.join(fallback)}"
    plan = KernelPlan(method, reason, rows, at_once, needed, fallback)
    logger.info("tangent kernel: %s, %s; %d rows at once, about %s", method, reason, rows, size(plan.n_bytes))
    return plan


def _compute(
    left: Examination, right: Examination, metric: Metric | None, route: Route, plan: KernelPlan
) -> ComputedKernel | None:
    """The kernel (n1, n2, C, C) in blocks of rows; f(x1), which comes with it, is checked.

    None where gradients of parameters are not what plain autograd says of all rows.
    """
    same, b = left is right, plan.rows_per_block
    opaque: set[str] = set()
    wrong: set[str] = set()

    def factors(examination: Examination, i: int) -> Factors:
        own = replace(route, by_rows=examination.route.by_rows if route.by_rows else frozenset())
        made, differing = _factors(examination, own, i, min(i + b, len(examination.X)), plan.rows_per_pass)
        opaque.update(made.opaque)
        wrong.update(differing)
        return made

    K: Tensor | None = None
    outputs = []
    for i in range(0, len(left.X), b):
        first = factors(left, i)
        outputs.append(first.outputs.detach())
        for j in range(i if same else 0, len(right.X), b):
            second = first if same and i == j else factors(right, j)
            block = contract(first, second, left.parameters, metric, Grams()).transpose(1, 2).contiguous()
            if b >= max(len(left.X), len(right.X)):
                K = block
                continue
            if K is None:
                K = block.new_empty((len(left.X), len(right.X), *block.shape[2:]))
            K[i : i + b, j : j + b] = block
            if same and i != j:
                K[j : j + b, i : i + b] = block.permute(1, 0, 3, 2)
    assert K is not None
    if left.blame(wrong):
        return None
    left.check_rows(torch.cat(outputs) if len(outputs) > 1 else outputs[0])
    if not same:
        right.check_rows()
    if plan.method == "layerwise":
        plan = replace(plan, fallback=tuple(n for n in left.parameters if n in opaque))
    return ComputedKernel(K, plan)


def _factors(examination: Examination, route: Route, lo: int, hi: int, at_once: int) -> tuple[Factors, frozenset[str]]:
    """What J of the rows lo:hi is made of, from passes over so many rows, and the parameters for which it is wrong."""
    model, parameters, X = examination.model, examination.parameters, examination.X
    wrong: set[str] = set()

    def checked(part: AnyInputs, arranged: Arranged | None = None) -> Factors:
        made = factorize(model, parameters, part, route, arranged=arranged)
        wrong.update(Features(model, parameters, part, made).differing(examination.eps))
        return made

    if at_once >= hi - lo:
        whole = hi - lo == len(X)
        made = checked(X, examination.arranged_by(route)) if whole else checked(X[lo:hi])
        return made, frozenset(wrong)
    parts = [compressed(checked(X[i : min(i + at_once, hi)]), parameters) for i in range(lo, hi, at_once)]
    return merged(parts, parameters), frozenset(wrong)


def _agrees(K: Tensor, left: Examination, right: Examination, metric: Metric | None) -> bool:
    sampled = to_matrix(K[left.rows][:, right.rows])
    return left.agrees(sampled, metric, None if right is left else right)
