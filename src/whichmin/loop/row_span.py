"""Training in fewer coordinates of the inputs, where the first layer is dense.

A first layer sees the inputs X (N, d) only as X Wᵀ, so that the gradient of its weight W (m, d) lies in the span of
their rows. With an orthonormal basis Q (d, r) of it, r ≤ N, gradient descent, with momentum and in mini-batches too,
moves A = W Q and leaves W − A Qᵀ as it was: the network with weight A on the inputs X Q (N, r) goes the same way, with
r/d of the work in that layer. Where several layers see the inputs, as in a network composed of copies of another, all
weights are exchanged so, also those that stay as they are.

What divides by sizes of single coordinates, as adaptive rules do, does not go it. But inputs that are zero in every
row, as the pixels at the rim of an image, have weights that no gradient reaches, which such a rule leaves where they
are: its basis Q are the unit vectors of the other inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from whichmin.errors import TrainingError, WhichminError
from whichmin.optimizers.registry import facts_of
from whichmin.tangent.copying import private_copy
from whichmin.tangent.model import forward, trainable
from whichmin.task import Task

#: Fewer coordinates are of use where they are no more than this part of the inputs' dimensions.
SMALL, FEW = 0.5, 0.8
#: In types of a coarser rounding than this, which swallows parts of steps, other coordinates are another training.
FINE = 1e-6
#: Outputs and gradients of the two networks may differ by this many rounding units of the largest.
ROUNDING = 1e3
#: The parameters are moved by this part of themselves to see whether the networks agree elsewhere.
MOVED = 0.1


@dataclass(frozen=True, eq=False)
class Rotation:
    """An orthonormal basis Q.

    Attributes:
        Q: (d, r), float64.
    """

    Q: Tensor

    def reduced(self, x: Tensor) -> Tensor:
        """X Q of rows x, (…, d)."""
        return x @ self.Q

    def expanded(self, a: Tensor) -> Tensor:
        """A Qᵀ of rows a, (…, r)."""
        return a @ self.Q.T


@dataclass(frozen=True, eq=False)
class Selection:
    """The unit vectors of some inputs.

    Attributes:
        used: which, (r,), int64.
        size: d.
    """

    used: Tensor
    size: int

    def reduced(self, x: Tensor) -> Tensor:
        """X Q of rows x, (…, d)."""
        return x[..., self.used]

    def expanded(self, a: Tensor) -> Tensor:
        """A Qᵀ of rows a, (…, r)."""
        whole = a.new_zeros((*a.shape[:-1], self.size))
        whole[..., self.used] = a
        return whole


Basis = Rotation | Selection


@dataclass(frozen=True, eq=False)
class RowSpan:
    """A network in the coordinates of the rows' span, or of the inputs that are not zero.

    Attributes:
        network: the copy to be trained.
        task: its training data, the inputs X Q.
        weights: of the first layers by name, W at the start, (m, d); frozen ones too.
        basis: Q.
    """

    network: nn.Module
    task: Task
    weights: dict[str, Tensor]
    basis: Basis

    def state_of_all(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state of the network in all coordinates, for one in those of the span: W + (A − W Q) Qᵀ."""
        return state | {name: self._of_all(name, state[name]) for name in self.weights}

    def _of_all(self, name: str, reduced: Tensor) -> Tensor:
        weight = self.weights[name]
        if not self.network.get_parameter(name).requires_grad:
            return weight
        W = weight.double()
        return (W + self.basis.expanded(reduced.double() - self.basis.reduced(W))).to(weight)

    def error_of_all(self, error: TrainingError) -> TrainingError:
        """An error of training with its state in all coordinates."""
        return TrainingError(str(error), state=self.state_of_all(error.state), step=error.step, losses=error.losses)


def row_span(network: nn.Module, task: Task, optimizer: torch.optim.Optimizer) -> RowSpan | None:
    """The network in fewer coordinates of the inputs; None where that is not the same training, or no cheaper.

    Whether it is the same is seen by outputs and gradients, where the network stands and beside that. In half precision
    it is not tried.

    Args:
        network: what is to be trained; it is not changed.
        task: the data.
        optimizer: built for its parameters.

    Cost: for a rotation a factorization of the inputs, N²·d; four forward and backward passes.
    """
    X = task.X
    if not (isinstance(X, Tensor) and X.is_floating_point()) or any(
        group.get("weight_decay", 0) for group in optimizer.param_groups
    ):
        return None
    size, tied = X[0].numel(), _names_of_tied(network)
    matrices = {name: p for name, p in network.named_parameters() if p.ndim == 2 and p.shape[1] == size}
    names = [name for name in matrices if name not in tied]
    if not names or any(torch.finfo(p.dtype).eps > FINE for p in trainable(network).values()):
        return None
    rows = X.detach().flatten(1).double()
    basis = _basis(rows, optimizer)
    if basis is None:
        return None
    inner = replace(task, X=basis.reduced(rows).to(X), X_test=None, y_test=None)
    singly = [[name] for name in names if matrices[name].requires_grad]
    for some in [names, *singly] if len(names) > 1 else singly:
        found = _reduced(network, task, inner, some, basis)
        if found is not None:
            return found
    return None


def _basis(rows: Tensor, optimizer: torch.optim.Optimizer) -> Basis | None:
    """That of the coordinates in which an optimizer without weight decay goes the same way; None without use."""
    facts, (count, size) = facts_of(type(optimizer)), rows.shape
    if facts is None:
        return None
    if facts.linear and facts.metric is None:  # a rotation of the parameters rotates each step
        return Rotation(torch.linalg.qr(rows.T)[0]) if count <= SMALL * size else None
    if not facts.elementwise or not all(group.get("eps", 1.0) > 0 for group in optimizer.param_groups):
        return None
    used = rows.any(0).nonzero()[:, 0]
    return Selection(used, size) if 0 < len(used) <= FEW * size else None


def _names_of_tied(network: nn.Module) -> set[str]:
    """The names of parameters that have several."""
    names: dict[int, list[str]] = {}
    for name, p in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    return {name for several in names.values() if len(several) > 1 for name in several}


def _reduced(network: nn.Module, task: Task, inner: Task, names: list[str], basis: Basis) -> RowSpan | None:
    """With these parameters in the coordinates of the span, where the network is the same function then."""
    small = private_copy(network)
    weights = {}
    for name in names:
        owner, _, attribute = name.rpartition(".")
        weight, module = network.get_parameter(name), small.get_submodule(owner)
        if attribute not in module._parameters:
            return None
        weights[name] = weight.detach().clone()
        reduced = basis.reduced(weights[name].double()).to(weight)
        setattr(module, attribute, nn.Parameter(reduced, requires_grad=weight.requires_grad))
    span = RowSpan(small, inner, weights, basis)
    probe = private_copy(network), private_copy(small)
    try:
        if not _agree(*probe, task, span):
            return None
        _move_alike(*probe, span)
        return span if _agree(*probe, task, span) else None
    except (RuntimeError, ValueError, TypeError, IndexError, WhichminError):
        return None  # it takes the inputs in no other shape


def _agree(network: nn.Module, small: nn.Module, task: Task, span: RowSpan) -> bool:
    """Whether two networks have the same outputs and, in the coordinates of the span, the same gradients."""
    found = []
    for each, inputs in ((network, task.X), (small, span.task.X)):
        outputs = forward(each, inputs)
        each.zero_grad()
        task.loss(outputs, task.y).backward()
        gradients = {n: p.grad for n, p in trainable(each).items()}
        found.append((outputs.detach(), gradients))
    (f, exact), (g, reduced) = found
    if not _close(f, g):
        return False
    for n, gradient in exact.items():
        other = reduced[n]
        if gradient is None or other is None:
            if gradient is not other:
                return False
            continue
        if n in span.weights:
            other = span.basis.expanded(other.double()).to(gradient)
        if not _close(gradient, other):
            return False
    return True


def _close(a: Tensor, b: Tensor) -> bool:
    unit = torch.finfo(a.dtype).eps
    return a.shape == b.shape and bool((a - b).abs().max() <= ROUNDING * unit * (a.abs().max() + unit))


def _move_alike(network: nn.Module, small: nn.Module, span: RowSpan) -> None:
    """Move the parameters of both by the same part of themselves, drawn for each number."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        others = trainable(small)
        for n, p in trainable(network).items():
            step = MOVED * p.detach().cpu() * torch.randn(p.shape, generator=draw, dtype=torch.float64)
            p.add_(step.to(p))
            if n in span.weights:
                others[n].copy_(span.basis.reduced(p.double()).to(p))
            else:
                others[n].add_(step.to(p))
