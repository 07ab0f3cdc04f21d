"""A copy of a network that is moved through parameter space and linearized where it stands."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from whichmin.dynamics.paths.clock import is_timed
from whichmin.dynamics.paths.cost import are_products_cheaper, seconds_of_kernel
from whichmin.dynamics.paths.holding import NO_ROOM, Holding, plan_holding
from whichmin.errors import MemoryPlanError, ModelError, ResultError
from whichmin.inputs import AnyInputs, moved, tensors_of
from whichmin.kernels.kernel import PASS_BYTES
from whichmin.kernels.large import HELD
from whichmin.kernels.layout import matrix_rows
from whichmin.kernels.linearize import Tangent
from whichmin.kernels.modes import Spectrum
from whichmin.kernels.multiplied import MultipliedSpectrum
from whichmin.kernels.operator import KernelOperator
from whichmin.kernels.spectrum import undecomposed
from whichmin.kernels.stored import StoredSpectrum
from whichmin.kernels.tile_jobs import TileMaker, fill
from whichmin.kernels.tiles import KernelTiles
from whichmin.recipe.describe import digest
from whichmin.tangent.beside import examine_beside, route_beside
from whichmin.tangent.cached_layer import CachedLayers
from whichmin.tangent.cached_layer import Memory as LayerMemory
from whichmin.tangent.capture import Capture
from whichmin.tangent.checks import check_modules
from whichmin.tangent.copying import check_independent, is_coarse, merge_shared, private_copy
from whichmin.tangent.direction import Direction
from whichmin.tangent.examination import Examination
from whichmin.tangent.examine import examine
from whichmin.tangent.fallback import by_first_right_route
from whichmin.tangent.features import Features, features_of
from whichmin.tangent.memory import Memory
from whichmin.tangent.metric import Metric
from whichmin.tangent.model import evaluate, finite, trainable
from whichmin.tangent.route import Route
from whichmin.task import Task

logger = logging.getLogger(__name__)

#: How far apart, in rounding units of the parameters (1e-6 of them in single precision), two paths begin that tell how
#: far rounding carries a path away.
NUDGE = 8.0

#: Of so many rows the kernel is computed in double precision too, which tells how its entries are rounded.
ROUNDED = 16
#: Entries are rounded by this part of their type's unit at least: some networks compute in it whatever they are made.
LEAST_ROUNDING = 0.1

#: About so many entries of a parameter's gradient are compared with what plain autograd says.
COMPARED = 2**16


@dataclass(frozen=True, eq=False)
class Position:
    """Where a network stood.

    Attributes:
        values: θ as it was stored.
        memories: what cached layers had still to move, and returned.
    """

    values: dict[str, Tensor]
    memories: dict[str, LayerMemory]


class MovingNetwork:
    """A private copy of a model together with its task; of one in half precision a copy in single precision.

    Attributes:
        model: the copy; moving it does not touch the caller's. Its parameters may lag behind those of cached layers
            (see ``whichmin.tangent.cached_layer``) until :meth:`state`, :meth:`values` or :meth:`settle` is called.
        task: the task.
        memory: where the kernel may be held.
        X: where errors and test outputs are wanted: the test inputs, or the training inputs without a test set.
        parameters: the copy's trainable parameters.
        size: the number of trainable parameters P.
        merged: parameters that share their memory with another, and are one with it in the copy.
        products: how many products with the kernel the prediction takes, where no more is asked of it; else infinity.
        kernel_rounding: by what part of √(K_ii K_jj) entries of the kernel at the start are rounded.

    Raises:
        ModelError: see :func:`whichmin.tangent_kernel`.
    """

    def __init__(self, model: nn.Module, task: Task, memory: Memory | None = None) -> None:
        check_modules(model)
        trainable(model)
        self.model = private_copy(model)
        check_independent(self.model, model, task.X)
        self.merged = merge_shared(self.model)
        self._coarse: nn.Module | None = None
        self._untouched = private_copy(model) if self.merged else None
        if any(is_coarse(p.dtype) for p in self.model.parameters()):
            self._coarse = private_copy(self.model)
            self.model, task = self.model.float(), task.to(torch.float32)
        self.task = task
        self._memory = memory or Memory()
        self.X = task.X if task.X_test is None else task.X_test
        self.parameters = trainable(self.model)
        self.size = sum(p.numel() for p in self.parameters.values())
        self.kernel_rounding, self.products, self._holding = 0.0, math.inf, Holding()
        self._found: Route | None = None
        self._formed_at_test: frozenset[str] = frozenset()
        self._is_test_checked, self._test_eps = False, self.eps
        self._cached = CachedLayers(self.parameters, task.X, self.X)

    @property
    def _route(self) -> Route:
        """How J is made, which :meth:`start` finds out."""
        assert self._found is not None, "features are asked for before the start"
        return self._found

    @property
    def plan(self) -> str:
        """Why the kernel is multiplied and not held; empty where it is held."""
        return self._holding.multiplied

    @property
    def is_held_later(self) -> bool:
        """Whether the kernel is not held only because products with it take less time than making it."""
        return self._holding.is_later

    def only(self, rows: Tensor) -> MovingNetwork:
        """The same copy of the model on some of the training rows; it stands where this one does, and they move as one.

        What was checked and what is known of cached layers holds for these rows too, and is not found out again.
        """
        part = copy.copy(self)
        part.task = self.task.only(rows)
        part.X = part.task.X if part.task.X_test is None else part.task.X_test
        part._cached = self._cached.only(rows, part.task.X, part.X)
        return part

    def examine(self) -> tuple[Examination, Examination]:
        """What a few rows of the training inputs tell of the model, and of those where test outputs are wanted.

        Raises:
            ModelError: see :func:`whichmin.tangent_kernel`; or outputs that do not match the targets.
        """
        X, C = self.task.X, self.task.outputs
        examination = examine(self.model, X, **self.task.axes)
        return examination, examination if self.X is X else examine(self.model, self.X, outputs=C)

    def check(self) -> None:
        """Refuse models that are no function of single rows, from a few of them: what can be said without a kernel.

        Raises:
            ModelError: see :func:`whichmin.tangent_kernel`; or outputs that do not match the targets.
        """
        for examination in {id(each): each for each in self.examine()}.values():
            examination.check_rows()

    def start(self, cache: bool = True) -> tuple[Features, Spectrum]:
        """The features of the training inputs at the start and the spectrum of their kernel, with all checks.

        Args:
            cache: whether layers may be cached, for rules that move their weights along Jᵀ.

        Raises:
            ModelError: see :func:`whichmin.tangent_kernel`; or outputs that do not match the targets.
            MemoryPlanError: the kernel of the training set does not fit.
        """
        X, C = self.task.X, self.task.outputs
        examination, at_test = self.examine()
        self._test_eps = at_test.eps
        there = examine_beside(examination)
        cacheable = [n for n in examination.cacheable if cache and (there is None or n in there.cacheable)]

        def attempt(route: Route) -> tuple[Features, Spectrum] | None:
            self.release()
            self._found = replace(route, by_rows=route.by_rows & at_test.route.by_rows)
            self._holding = self._plan(examination)
            self._cached = CachedLayers(self.parameters, X, self.X, [] if route.form else cacheable)
            features = self.features()
            examination.check_rows(features.outputs)
            if not self._pulls_right(features, examination):
                return None
            if self._holding.tiles is not None:
                return self._stored(features, examination, at_test)
            if self.plan:
                return self._multiplied(features, examination, at_test)
            K = features.gram()
            sampled = self._rounded_rows()
            self.kernel_rounding = self._rounding_of(K[sampled][:, sampled])
            sampled = matrix_rows(examination.rows, C)
            right = self._agrees(features, K[sampled][:, sampled], examination, at_test)
            return (features, self._decompose(K)) if right else None

        features, spectrum = by_first_right_route(examination, attempt, route_beside(examination, there))
        at_test.check_rows()
        return features, spectrum

    def _stored(
        self, features: Features, examination: Examination, at_test: Examination
    ) -> tuple[Features, Spectrum] | None:
        """The kernel in tiles on disk; None where it is not what plain autograd says."""
        assert self._holding.tiles is not None
        X, C = self.task.X, self.task.outputs
        sampled = np.array(matrix_rows(examination.rows, C))
        few = self._block(X[examination.rows])
        if not self._agrees(features, few.gram(), examination, at_test):
            return None
        dtype = examination.sample.outputs.dtype
        inputs = [p.detach() for p in self.parameters.values()] + list(tensors_of(X))
        fingerprint = digest(inputs, *self.parameters, repr(self.model), repr(self._route.form))
        tiles = KernelTiles.open(self._holding.tiles, self.task.n * C, C, dtype, fingerprint)
        fill(tiles, TileMaker(self.model, self._route), X, C, self._memory.executor, self._memory.progress)
        K = torch.from_numpy(tiles[sampled][:, sampled])
        if not examination.agrees(K.to(dtype)):
            raise ResultError(
                f"the tiles in {tiles.folder} are not what the network says: remove the folder and call again."
            )
        rounded = self._rounded_rows()
        self.kernel_rounding = self._rounding_of(torch.from_numpy(tiles[rounded][:, rounded]))
        return features, StoredSpectrum.on_disk(
            tiles, self.task.objective.gamma, self._memory.executor, self._memory.progress
        )

    def _multiplied(
        self, features: Features, examination: Examination, at_test: Examination
    ) -> tuple[Features, Spectrum] | None:
        """The kernel as an operator; None where its blocks are not what plain autograd says.

        Raises:
            MemoryPlanError: forward and backward derivatives differ.
        """
        X, C = self.task.X, self.task.outputs
        few = self._block(X[examination.rows]).gram()
        if not self._agrees(features, few, examination, at_test):
            return None
        operator = self._operator(examination)
        c = examination.pulled(0)[0].detach().reshape(-1)
        sampled = torch.tensor(matrix_rows(examination.rows, C))
        v = torch.zeros(self.task.n * C, dtype=c.dtype, device=c.device).index_put((sampled.to(c.device),), c)
        expected, found = few.to(c) @ c, operator.matvec(v)[sampled.to(c.device)]
        if not float((found - expected).norm()) <= examination.eps**0.5 * float(few.norm() * c.norm()):
            raise MemoryPlanError(
                f"{self.plan} But forward derivatives of this network differ from its backward ones. {NO_ROOM}"
            )
        self.kernel_rounding = self._rounding_of(self._block(X[self._rounded_inputs()]).gram())
        blocks = [self._block(X[i : i + ROUNDED]).gram().diagonal() for i in range(0, self.task.n, ROUNDED)]
        diagonal = torch.cat(blocks).double().cpu().numpy()
        gamma = self.task.objective.gamma
        return features, MultipliedSpectrum.by(operator, diagonal, gamma, examination.eps, self._memory.progress)

    def _operator(self, examination: Examination) -> KernelOperator:
        """K(X, X) as an operator."""
        at_once = max(1, PASS_BYTES // examination.bytes_per_row(self._route.form))
        return KernelOperator(Tangent(self.model), self.task.X, self.task.X, None, self.task.outputs, at_once)

    def _are_products_cheaper(self, examination: Examination) -> bool:
        """Whether the products that the prediction takes are had in less time than a kernel that fits."""
        if math.isinf(self.products) or not is_timed() or self.size < self.task.n * self.task.outputs:
            return False
        v = torch.ones(self.task.n * self.task.outputs, dtype=examination.sample.outputs.dtype, device=self.device)
        kernel = self.seconds_of_kernel(self._route)
        return are_products_cheaper(self.products, kernel, lambda: self._operator(examination).matvec(v))

    def seconds_of_kernel(self, route: Route) -> float:
        """About what a linearization by a route takes at least, guessed from a few rows."""
        return seconds_of_kernel(lambda rows: self.few_features(rows, route), self.task.n, self.device)

    def _rounded_inputs(self) -> list[int]:
        """Some rows of the data, spread over all."""
        return np.unique(np.linspace(0, self.task.n - 1, ROUNDED).astype(int)).tolist()

    def _rounded_rows(self) -> list[int]:
        """Those of the kernel."""
        return matrix_rows(self._rounded_inputs(), self.task.outputs)

    def _rounding_of(self, K: Tensor) -> float:
        """By what part of √(K_ii K_jj) entries of the kernel are rounded, as double precision tells.

        That of the type where the network computes in no other.

        Args:
            K: of :meth:`_rounded_rows`.

        Cost: a copy of the network in double precision, and its features on a few rows.
        """
        inputs = self.task.X[self._rounded_inputs()]
        try:
            fine = private_copy(self.model).double()
            exact = features_of(fine, trainable(fine), moved(inputs, torch.float64), route=self._route).gram()
        except Exception:  # whatever a network raises that is made for one type
            return self.eps
        scale = exact.diagonal().sqrt()
        part = (K.to(exact) - exact) / (scale[:, None] * scale)
        part = part[torch.isfinite(part)]
        return max(float(part.square().mean().sqrt()) if len(part) else 0.0, LEAST_ROUNDING * self.eps)

    def _block(self, X: AnyInputs) -> Features:
        """Features of some rows, made by themselves."""
        return features_of(self.model, self.parameters, X, route=self._route)

    def few_features(self, rows: int, route: Route) -> Features:
        """J of the first few training rows by a route, without a check."""
        inputs = self.task.X[list(range(min(rows, self.task.n)))]
        return features_of(self.model, self.parameters, inputs, route=route)

    def _agrees(self, features: Features, K: Tensor, examination: Examination, at_test: Examination) -> bool:
        """Whether K of the sampled rows, and K(x', X) on a few rows of it, are what plain autograd says."""
        sampled = matrix_rows(examination.rows, self.task.outputs)
        if not examination.agrees(K):
            return False
        if at_test is examination:
            return True
        few = self._block(self.X[at_test.rows])
        return at_test.agrees(few.gram(features)[:, sampled], other=examination)

    def _pulls_right(self, features: Features, examination: Examination) -> bool:
        """Whether Jᵀc is what plain autograd says, parameter by parameter, for a c on all rows and one on a few."""
        if examination.blame(features.differing(examination.eps)):
            return False
        few, plain = examination.pulled(0)
        c = torch.zeros_like(features.outputs)
        c[examination.rows] = few.to(c)
        direction = features.pull(c)
        pulled = direction.tensors | {name: self._cached[name].moved(step) for name, step in direction.steps.items()}
        for name, whole in plain.items():
            stride = 1 + whole.numel() // COMPARED
            if not examination.is_alike(*(t[::stride] if t.ndim else t for t in (whole, pulled[name]))):
                return False
        return True

    def _plan(self, examination: Examination) -> Holding:
        """Where the kernel is held.

        Raises:
            MemoryPlanError: it fits nowhere.
        """
        n, outputs = self.task.n, examination.sample.outputs
        parameters = 6 * self.size * outputs.element_size()
        rest = n * examination.bytes_per_row(self._route.form) + parameters
        cheaper = partial(self._are_products_cheaper, examination)
        return plan_holding(self._memory, n, outputs, rest, self.products, cheaper)

    def features(self, X: AnyInputs | None = None) -> Features:
        """J of X, the training inputs by default, where the network stands.

        Raises:
            ModelError: no way of making J of the test inputs is what plain autograd says.
        """
        inputs: AnyInputs = self.task.X if X is None else X
        if inputs is self.X and inputs is not self.task.X:
            return self._features_at_test()
        return features_of(self.model, self.parameters, inputs, route=self._route, cached=self._cached)

    def misread(self, state: Mapping[str, Tensor]) -> frozenset[str]:
        """Parameters whose gradients on the training rows are not what layers say at a state; θ is put there.

        Where training began they were: a branch has opened since that no layer is seen through.

        Args:
            state: a state dict.

        Cost: that of :meth:`~whichmin.tangent.features.Features.differing`.
        """
        self.put(Position({name: state[name] for name in self.parameters}, self._cached.nothing()))
        return self._block(self.task.X).differing(self._test_eps)

    def _features_at_test(self) -> Features:
        """J of the test inputs, checked on all rows the first time: some may take branches that no other row takes."""
        route = self._route
        while True:
            route, cached = replace(route, form=route.form | self._formed_at_test), self._cached
            if any(name in cached for name in self._formed_at_test):
                self.settle()
                cached = None
            made = features_of(self.model, self.parameters, self.X, route=route, cached=cached)
            wrong = frozenset() if self._is_test_checked else made.differing(self._test_eps)
            if not wrong:
                self._is_test_checked = True
                return made
            if wrong <= route.form:
                raise ModelError(
                    f"no way of computing the tangent features of the test inputs agrees with plain autograd "
                    f"(parameters {', '.join(sorted(wrong))}): a row's output depends on the other rows, or on state."
                )
            self._formed_at_test |= wrong

    def outputs(self, X: AnyInputs) -> Tensor:
        """f(θ, X), (n, C)."""
        calls = self._cached.calls(X)
        with torch.no_grad():
            outputs = evaluate(self.model, X, Capture(self.parameters, cached=calls).call)
        return self.outputs(X) if self._cached.drop_refused(calls) else outputs

    def spectrum(self, features: Features, metric: Metric | None = None, near: Tensor | None = None) -> Spectrum:
        """The decomposition of the kernel J D Jᵀ of features of the training set.

        Args:
            features: where the network stands.
            metric: D; None for the identity.
            near: the eigenvector of the largest eigenvalue of a kernel like that, where one is known.
        """
        return self._decompose(features.gram(metric=metric), None if near is None else near.numpy())

    def _decompose(self, K: Tensor, near: NDArray[np.float64] | None = None) -> Spectrum:
        K, gamma = finite(K, "the kernel"), self.task.objective.gamma
        made = undecomposed(K if len(K) > HELD else K.double(), gamma, torch.finfo(K.dtype).eps, near=near)
        return made.checked() if self.task.loss.is_quadratic else made

    def shift(self, direction: Direction, by: float) -> None:
        """θ ← θ + by·direction. Features taken before no longer pull back, unless θ is put back first."""
        for name, step in direction.steps.items():
            self._cached[name].move(step, by)
        for name, tensor in direction.tensors.items():
            self._cached.hand_over(name)
            self.parameters[name].data.add_(tensor, alpha=by)

    def decay(self, by: float) -> None:
        """θ ← by·θ."""
        for name, p in self.parameters.items():
            self._cached.hand_over(name)
            p.data.mul_(by)

    def release(self) -> bool:
        """Cache no layers any more, for rules that move their weights in another way than along Jᵀ; whether any were.

        Features taken before no longer hold where there were any.
        """
        return self._cached.release()

    def settle(self) -> None:
        """Bring the parameters that lag behind to where they should stand."""
        self._cached.settle()

    def position(self) -> Position:
        """A copy of θ."""
        values = {n: p.detach().clone() for n, p in self.parameters.items()}
        return Position(values, self._cached.memory())

    def put(self, position: Position) -> None:
        """θ ← where it was."""
        for name, value in position.values.items():
            self.parameters[name].data.copy_(value)
        self._cached.recall(position.memories)

    def nudged(self, position: Position) -> Position:
        """A position with every parameter a random ``NUDGE`` of its roundings away, but those of cached layers."""
        self.put(position)
        generator = torch.Generator().manual_seed(0)
        for name, p in self.parameters.items():
            if name not in self._cached:
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                p.data.mul_((1.0 + NUDGE * torch.finfo(p.dtype).eps * noise).to(p))
        return self.position()

    def difference(self, state: Mapping[str, Tensor], position: Position) -> dict[str, Tensor]:
        """The trainable parameters of a state dict minus those of a position where nothing was pending."""
        return {n: state[n].to(p) - p for n, p in position.values.items()}

    def values(self) -> dict[str, Tensor]:
        """A copy of the trainable parameters, by name."""
        self.settle()
        return {n: p.detach().clone() for n, p in self.parameters.items()}

    def state(self) -> dict[str, Tensor]:
        """A copy of the state dict."""
        self.settle()
        return {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def rounding(self, state: Mapping[str, Tensor]) -> float:
        """What the floating-point type of a model in half precision makes of its outputs; 0 for other models.

        The root mean square over the inputs where errors are wanted, with the parameters of a state dict.
        """
        if self._coarse is None:
            return 0.0
        coarse = self._coarse
        self.model.load_state_dict(dict(state))
        coarse.load_state_dict(dict(state))
        exact, type_ = self.outputs(self.X), next(coarse.parameters()).dtype
        with torch.no_grad():
            rounded = evaluate(coarse, moved(self.X, type_))
        return float((rounded.double() - exact.double()).square().mean().sqrt())

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(iter(self.parameters.values())).device

    @property
    def eps(self) -> float:
        """The rounding unit of the parameters' type."""
        return torch.finfo(next(iter(self.parameters.values())).dtype).eps

    @property
    def is_coarse(self) -> bool:
        """Whether the model itself computes in half precision."""
        return self._coarse is not None

    def copy_at(self, position: Position, *, fine: bool = False) -> tuple[nn.Module, Task]:
        """A copy of the network at a position, and the task in its type.

        Args:
            position: where it stands.
            fine: whether a model in half precision is copied in single precision, not as it computes itself.
        """
        self.put(position)
        self.settle()
        if self._coarse is not None and not fine:
            made = private_copy(self._coarse)
            made.load_state_dict(self.model.state_dict())
            return made, self.task.to(next(made.parameters()).dtype)
        if self._untouched is not None:
            return private_copy(self._untouched), self.task
        return private_copy(self.model), self.task

    def eigenvalue_gradient(self, v: Tensor, metric: Metric | None = None) -> Direction:
        """∇_θ (J(X)ᵀv)·D (J(X)ᵀv) where the network stands: that of an eigenvalue of J D Jᵀ, v its unit eigenvector.

        Zero where an operation of the network has no second derivative.

        Cost: a forward pass, a backward pass and another through it.
        """
        self.settle()
        values = list(self.parameters.values())
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivatives
            outputs = evaluate(self.model, self.task.X)
        seed = v.to(outputs).view_as(outputs)
        grads = torch.autograd.grad(outputs, values, seed, retain_graph=True, create_graph=True, allow_unused=True)
        D = dict.fromkeys(self.parameters, 1.0) if metric is None else metric
        squares = [(g.square() * D[n]).sum() for n, g in zip(self.parameters, grads, strict=True) if g is not None]
        total = torch.stack(squares).sum()
        try:
            second = torch.autograd.grad(total, values, allow_unused=True)
        except RuntimeError as error:  # fused attention has no second derivatives
            logger.info("the network cannot be differentiated twice: %s", error)
            second = [None] * len(values)
        gradients = zip(self.parameters.items(), second, strict=True)
        return Direction({n: torch.zeros_like(p) if g is None else g for (n, p), g in gradients})
