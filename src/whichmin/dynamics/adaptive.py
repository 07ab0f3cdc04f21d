"""AdaGrad, RMSprop, Adam and AdamW in full batches, followed through a finite network by a few linearizations.

Over an interval the tangent features J are frozen, and so is the shape of the preconditioner D, taken where it is
expected in the middle of the interval; its size goes on with the gradients. The residual then moves in the Krylov space
of K_D = J D Jᵀ, whose products K_D v are one vector-Jacobian and one Jacobian-vector product each: K_D is never formed.
The second moments gain their Σ g² by a Gauss rule of few nodes. The preconditioner changes by a bounded factor while
the number of steps doubles, so that intervals grow with the steps made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from whichmin.dynamics.linearized import flat
from whichmin.dynamics.motion import Array
from whichmin.dynamics.network import Network
from whichmin.tangent.layerwise import Factors

#: Steps that are made for real before the first interval.
EXACT = 12
#: The most products with K_D in an interval.
PRODUCTS = 32
#: The Krylov space is large enough when enlarging it moves the residual by less than this part of itself.
SETTLED = 1e-3
#: Nodes of the rules for Σ g².
NODES = 3


@dataclass(frozen=True)
class AdaptiveRule:
    """θ ← (1 − lr·λ) θ − lr·m̂/(√v̂ + ε), m ← β₁ m + (1 − β₁) g, v ← v + g² or β₂ v + (1 − β₂) g².

    Attributes:
        name: the optimizer's class.
        lr: the learning rate.
        eps: ε.
        beta1: of the momentum; 0 without.
        beta2: of the second moments; None where they add up.
        corrected: whether m and v are divided by 1 − β^t.
        decay: λ, decoupled weight decay.
    """

    name: str
    lr: float
    eps: float
    beta1: float = 0.0
    beta2: float | None = None
    corrected: bool = False
    decay: float = 0.0

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> AdaptiveRule | None:
        """The rule of a built optimizer; None for other classes and settings, which are run step by step."""
        if len(optimizer.param_groups) != 1 or optimizer.param_groups[0].get("maximize"):
            return None
        group, kind = optimizer.param_groups[0], type(optimizer)
        lr, eps, decay = float(group["lr"]), float(group.get("eps", 0.0)), float(group.get("weight_decay", 0.0))
        if kind is torch.optim.Adagrad and not group["lr_decay"] and not decay:
            return cls("Adagrad", lr, eps)
        if kind is torch.optim.RMSprop and not (group["momentum"] or group["centered"] or decay):
            return cls("RMSprop", lr, eps, beta2=float(group["alpha"]))
        decoupled = kind is torch.optim.AdamW or bool(group.get("decoupled_weight_decay"))
        if kind in (torch.optim.Adam, torch.optim.AdamW) and not group["amsgrad"] and (decoupled or not decay):
            first, second = (float(b) for b in group["betas"])
            return cls(kind.__name__, lr, eps, first, second, True, decay)
        return None

    def moments(self, state: Mapping[str, Tensor]) -> tuple[Tensor | None, Tensor]:
        """M and v of a parameter in the optimizer's state."""
        if self.name == "Adagrad":
            return None, state["sum"]
        if self.name == "RMSprop":
            return None, state["square_avg"]
        return state["exp_avg"], state["exp_avg_sq"]

    def correction(self, t: Array) -> tuple[Array, Array]:
        """1 − β₁^t and 1 − β₂^t after t steps; 1 without correction."""
        if not self.corrected or self.beta2 is None:
            return np.ones_like(t), np.ones_like(t)
        return -np.expm1(t * math.log(self.beta1)) if self.beta1 else np.ones_like(t), -np.expm1(
            t * math.log(self.beta2)
        )

    def nodes(self, n: float) -> tuple[Array, Array, float]:
        """Times τ and weights w with v(n) = kept·v(0) + Σ w g(τ)² over n steps."""
        x, w = leggauss(NODES)
        x, w = (x + 1) / 2, w / 2
        if self.beta2 is None:
            return n * x, n * w, 1.0
        kept = self.beta2**n
        u = kept + (1 - kept) * x
        return n - np.log(u) / math.log(self.beta2), (1 - kept) * w, kept


class Reduced:
    """The residual in a Krylov space of K_D, and its way there over an interval.

    Attributes:
        basis: (p, N·C), orthonormal.
        matrix: K_D in it, (p, p).
        energy: γ² K in it: ρ·energy·ρ = ‖g‖².
    """

    def __init__(self, basis: Array, matrix: Array, energy: Array, gamma: float) -> None:
        self.basis, self.matrix, self.energy, self.gamma = basis, matrix, energy, gamma

    def run(self, rule: AdaptiveRule, begun: int, n: int, r: Array, mu: Array, pull: Array, v: float, v_mid: float,
            until: float | None) -> Way:  # fmt: skip
        """Steps number begun, …, begun + n − 1.

        Args:
            rule: the rule.
            begun: steps made before.
            n: how many steps.
            r: the residual in the basis.
            mu: J D m in the basis.
            pull: Jθ in the basis, for weight decay.
            v: the sum of the second moments.
            v_mid: the same where D was taken (corrected).
            until: stop where the mean square error falls below this.
        """
        size = self.basis.shape[1]
        first, second = rule.correction(np.arange(begun + 1, begun + n + 1, dtype=float))
        rs, mse = [r], [float(r @ r) / size]
        a = np.zeros_like(r)  # m = β₁^τ m(0) + Jᵀ B a
        c, momentum, kept = np.zeros_like(r), 0.0, 1.0
        H, E, b1 = self.matrix, self.energy, rule.beta1
        for k in range(n):
            square = float(r @ E @ r)
            v = v + square if rule.beta2 is None else rule.beta2 * v + (1 - rule.beta2) * square
            rate = rule.lr * math.sqrt(v_mid / (v / second[k])) / first[k]
            a = b1 * a + (1 - b1) * self.gamma * r
            kept *= b1
            momentum -= rate * kept
            c -= rate * a
            r = r - rate * (H @ a + kept * mu) - rule.lr * rule.decay * pull
            rs.append(r)
            mse.append(float(r @ r) / size)
            if (until is not None and mse[-1] < until) or not math.isfinite(mse[-1]):
                break
        made = len(rs) - 1
        return Way(self, made, np.array(rs), np.array(mse), c, momentum, a, b1**made, v)


@dataclass(frozen=True, eq=False)
class Way:
    """The residual's way over an interval.

    Attributes:
        space: where it was found.
        steps: how many were made.
        residuals: (steps + 1, p), in the basis.
        mse: (steps + 1,).
        c: the parameters moved by D∘(Jᵀ B c + momentum·m(0)).
        momentum: see ``c``.
        a: m = kept·m(0) + Jᵀ B a.
        kept: see ``a``.
        v: the sum of the second moments at the end.
    """

    space: Reduced
    steps: int
    residuals: Array
    mse: Array
    c: Array
    momentum: float
    a: Array
    kept: float
    v: float

    def at(self, tau: float) -> Array:
        """The residual at a time between the steps, (N·C,)."""
        k = min(int(tau), self.steps - 1) if self.steps else 0
        part = tau - k
        rho = self.residuals[k] if not self.steps else (1 - part) * self.residuals[k] + part * self.residuals[k + 1]
        return rho @ self.space.basis


class AdaptivePath:
    """One path, while it is made and afterwards.

    Attributes:
        steps: how far it came.
        intervals: linearizations, the exact steps not counted.
        curve: (step, training mean square error).
        metric: the last D, by name.

    Args:
        network: a private copy at θ₀, which is moved.
        rule: the rule.
        optimizer: built on the network's own parameters; makes the first steps.
        growth: an interval is at most this many times the steps made before.
        jump: an interval is no longer than lets the real outputs differ by so much (root mean square) from those of its
            linearization at its end, as far as the interval before it tells.
    """

    def __init__(
        self,
        network: Network,
        rule: AdaptiveRule,
        optimizer: torch.optim.Optimizer,
        *,
        growth: float = 1.0,
        jump: float = math.inf,
    ) -> None:
        network.let_go()
        self.network, self.rule, self._optimizer = network, rule, optimizer
        self._growth, self._jump = growth, jump
        self._y = flat(network.task.y).numpy()
        self.gamma = 2.0 / len(self._y)
        self.steps, self.intervals, self.products = 0, 0, 0
        self.curve: list[tuple[float, float]] = []
        self._m: dict[str, Tensor] | None = None
        self._v: dict[str, Tensor] = {}
        self._last: Way | None = None

    @property
    def metric(self) -> dict[str, Tensor]:
        """1/(√v̂ + ε)."""
        _, second = self.rule.correction(np.array(float(max(self.steps, 1))))
        return {n: _metric(v, float(second), self.rule.eps) for n, v in self._v.items()}

    @property
    def mse(self) -> float:
        """Where it stands."""
        return self.curve[-1][1]

    def follow(self, steps: float, until: float | None, most: int) -> bool:
        """To a number of steps or a training error; whether it arrived in at most ``most`` intervals."""
        self._exact(min(steps, EXACT), until)
        factors = self.network.factors()
        longest = math.inf
        while not self._arrived(steps, until):
            if self.intervals >= most or not math.isfinite(self.mse) or self.mse > 1e3 * (self.curve[0][1] + 1e-30):
                return False
            n = max(1, math.ceil(min(steps - self.steps, self._growth * self.steps, longest)))
            self._interval(factors, n, until)
            factors = self.network.factors()
            r = flat(factors.outputs).numpy() - self._y
            self.curve.append((float(self.steps), float(np.mean(r**2))))
            assert self._last is not None
            jump = float(np.sqrt(np.mean((r - self._last.at(self._last.steps)) ** 2)))
            longest = self._last.steps * min(max(math.sqrt(self._jump / max(jump, 1e-300)), 0.25), 4.0)
        return True

    def _arrived(self, steps: float, until: float | None) -> bool:
        return self.steps >= steps or (until is not None and self.mse < until)

    def _exact(self, steps: float, until: float | None) -> None:
        """Steps of the optimizer itself on the network itself."""
        network, y = self.network, self.network.task.y
        while True:
            with torch.enable_grad():
                loss = (network.model(network.task.X).reshape(y.shape) - y).square().mean()
            self.curve.append((float(self.steps), float(loss.detach())))
            if self._arrived(steps, until):
                break
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.steps += 1
        self._optimizer.zero_grad()
        m: dict[str, Tensor] = {}
        for name, p in network.named.items():
            state = self._optimizer.state.get(p)
            first, second = self.rule.moments(state) if state else (None, torch.zeros_like(p))
            self._v[name] = second.detach().clone()
            if first is not None:
                m[name] = first.detach().clone()
        self._m = m if self.rule.beta1 else None

    def _interval(self, factors: Factors, n: int, until: float | None) -> None:
        rule, network = self.rule, self.network
        r = flat(factors.outputs).numpy() - self._y
        D, v_mid = self._middle(factors, r, n)
        space, starts = self._space(factors, D, r, n)
        total = sum(float(v.sum(dtype=torch.float64)) for v in self._v.values())
        way = space.run(rule, self.steps, n, *starts, total, v_mid, until)
        direction = self._pull(factors, way.c @ space.basis)
        gained = None if self._m is None else self._pull(factors, way.a @ space.basis)
        self._gain(factors, way)
        if rule.decay:
            network.decay((1.0 - rule.lr * rule.decay) ** way.steps)
        for name, p in network.named.items():
            moved = direction[name]
            if self._m is not None and gained is not None:
                moved = torch.add(moved, self._m[name], alpha=way.momentum)
                self._m[name].mul_(way.kept).add_(gained[name])
            p.data.addcmul_(D[name], moved)
        for k in sorted({int(way.steps * part) for part in (0.25, 0.5, 0.75)} - {0}):
            self.curve.append((float(self.steps + k), float(way.mse[k])))
        self.steps += way.steps
        self.intervals += 1
        self._last = way

    def _pull(self, factors: Factors, c: Array) -> dict[str, Tensor]:
        return self.network.pull_back(factors, torch.from_numpy(c)).tensors

    def _push(self, factors: Factors, v: Mapping[str, Tensor]) -> Array:
        return flat(self.network.push_forward(factors, self.network.task.X, v)).numpy()

    def _middle(self, factors: Factors, r: Array, n: int) -> tuple[dict[str, Tensor], float]:
        """D where it is expected in the middle of the interval, and the corrected sum of the second moments there.

        The residual is expected to go on as in the Krylov space of the last interval.
        """
        half = n / 2
        times, weights, kept = self.rule.nodes(half)
        residuals = [r] * len(times)
        if self._last is not None:
            space = self._last.space
            rho = space.basis @ r
            total = sum(float(v.sum(dtype=torch.float64)) for v in self._v.values())
            second = float(self.rule.correction(np.array(float(self.steps)))[1])
            way = space.run(
                self.rule,
                self.steps,
                math.ceil(half),
                rho,
                space.gamma * space.matrix @ rho * (self.rule.beta1 > 0),
                np.zeros_like(rho),
                total,
                total / second,
                None,
            )
            if np.isfinite(way.mse[-1]) and way.mse[-1] <= 4 * way.mse[0]:
                rest = r - rho @ space.basis
                residuals = [way.at(min(t, way.steps)) + rest for t in times]
        middle = {n_: v * kept for n_, v in self._v.items()}
        self._add_squares(middle, factors, residuals, weights)
        second = float(self.rule.correction(np.array(self.steps + half))[1])
        total = sum(float(v.sum(dtype=torch.float64)) for v in middle.values()) / second
        return {name: _metric(v, second, self.rule.eps) for name, v in middle.items()}, total

    def _gain(self, factors: Factors, way: Way) -> None:
        """The second moments over the interval."""
        times, weights, kept = self.rule.nodes(way.steps)
        for v in self._v.values():
            v.mul_(kept)
        self._add_squares(self._v, factors, [way.at(t) for t in times], weights)

    def _add_squares(
        self, moments: dict[str, Tensor], factors: Factors, residuals: Sequence[Array], weights: Array
    ) -> None:
        """Moments += Σ w (γ Jᵀ r)²."""
        same = all(r is residuals[0] for r in residuals)
        pairs = [(residuals[0], float(weights.sum()))] if same else zip(residuals, weights.tolist(), strict=True)
        for r, w in pairs:
            for name, g in self._pull(factors, self.gamma * r).items():
                moments[name].addcmul_(g, g, value=w)

    def _space(
        self, factors: Factors, D: Mapping[str, Tensor], r: Array, n: int
    ) -> tuple[Reduced, tuple[Array, Array, Array]]:
        """The Krylov space of K_D that the residual moves in, and r, J D m and Jθ in it."""
        size, rule = len(r), self.rule
        mu, pull = np.zeros(size), np.zeros(size)
        if self._m is not None:
            mu = self._push(factors, {k: D[k] * m for k, m in self._m.items()})
        if rule.decay:
            pull = self._push(factors, self.network.values())
        basis: list[Array] = []
        for start in (r, mu, pull):
            _append(basis, start)
        images: list[Array] = []
        before: Array | None = None
        rate = rule.lr * self.gamma * n
        while len(images) < min(len(basis), PRODUCTS, size):
            pulled = self._pull(factors, basis[len(images)])
            for name, g in pulled.items():
                g.mul_(D[name])
            images.append(self._push(factors, pulled))
            self.products += 1
            _append(basis, images[-1])
            p = len(images)
            if p % 3 == 0 and p >= 6:
                B = np.array(basis[:p])
                H = B @ np.array(images).T
                values, vectors = np.linalg.eigh((H + H.T) / 2)
                left = vectors @ (np.exp(-np.clip(rate * values, 0.0, 700.0)) * (vectors.T @ (B @ r)))
                reached = left @ B
                if before is not None:
                    change = float(np.linalg.norm(reached - before))
                    if change <= SETTLED * float(np.linalg.norm(r)) * 0.1 + 0.02 * float(np.linalg.norm(reached)):
                        break
                before = reached
        B = np.array(basis[: len(images)])
        H = B @ np.array(images).T
        K = self.network.kernel(factors, factors).double().cpu().numpy()
        space = Reduced(B, (H + H.T) / 2, self.gamma**2 * (B @ K @ B.T), self.gamma)
        return space, (B @ r, B @ mu, B @ pull)


def _append(basis: list[Array], v: Array) -> None:
    """Add what of v is new, normalized."""
    norm = float(np.linalg.norm(v))
    if norm == 0:
        return
    w = v / norm
    for _ in range(2):
        for b in basis:
            w = w - (b @ w) * b
    left = float(np.linalg.norm(w))
    if left > 1e-6:
        basis.append(w / left)


def _metric(v: Tensor, second: float, eps: float) -> Tensor:
    return (v / second).sqrt_().add_(eps).reciprocal_()
