"""Gradient descent with a finite step, beside the flow."""

from __future__ import annotations

from typing import Any

import numpy as np

from whichmin.devices import default_device_aside
from whichmin.errors import DataError, DivergenceError
from whichmin.linear import _checks
from whichmin.linear._checks import Array
from whichmin.linear._problem import Problem, pose, reduce
from whichmin.linear.flow import LinearFlow, package

#: The growth of L − L* from which gradient descent counts as diverged.
DIVERGED = 1e6
#: Reports that come back from gradient descent, about, where the caller does not say.
REPORTS = 200


@default_device_aside()
def descend(U: Any, V: Any, X: Any, Y: Any, *, lr: float, steps: int, eval_every: int | None = None) -> LinearFlow:
    """Gradient descent on L = ½‖Y − XUVᵀ‖²_F with step ``lr``.

    U₂ stays still and the row space of [U₁; V] is kept as in the flow, so that a step costs O(nm·min(h, n + m)). The
    imbalance is no longer conserved: a step changes it by lr²(VᵀGᵀGV − U₁ᵀGGᵀU₁), G = ΣE₁, which adds up to O(lr) over
    a run. With ``torch.nn.MSELoss`` the same step is lr·N·m/2.

    Args:
        U: first layer, (d, h). For a module and a task: ``descend(*linear.factors(model, task), lr=…, steps=…)``.
        V: second layer, (m, h).
        X: inputs, (N, d).
        Y: targets, (N, m) or (N,).
        lr: the step.
        steps: how many.
        eval_every: report every so many steps, and after the last; by default some 200 reports come back.

    Returns:
        A :class:`LinearFlow` whose times are lr·step.

    Raises:
        DivergenceError: the loss is no longer finite, or has grown a million-fold; ``limit`` is the largest step that
            is stable on the network linearized at the start, 2/λ_max of its tangent kernel, O((nm)³).
        ModelError: see :func:`whichmin.linear.analyze_weights`.
        DataError: see there; or ``lr``, ``steps`` or ``eval_every`` not positive.
    """
    data = _checks.data(X, Y)
    u, v = _checks.network(U, V, data)
    lr = _checks.positive(lr, "lr")
    every = max(1, steps // REPORTS) if eval_every is None else eval_every
    for name, value in (("steps", steps), ("eval_every", every)):
        if int(value) != value or value < 1:
            raise DataError(f"{name} is {value}; expected a positive integer.")
    problem = pose(data)
    network = reduce(problem, u, v)
    marks, states = _run(problem, network.state, lr, int(steps), int(every))
    return package(problem, network, lr * marks, states, int(steps))


def _run(problem: Problem, start: Array, lr: float, steps: int, every: int) -> tuple[Array, Array]:
    state, marks, states = start.copy(), [0], [start]
    limit = DIVERGED * max(float(problem.gap(start)), 1e-300)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(1, steps + 1):
            state = state + lr * problem.velocity(state)
            if step % every == 0 or step == steps:
                if not problem.gap(state) <= limit:
                    raise DivergenceError(_diverged(problem, start, lr, step), largest_step(problem, start))
                marks.append(step)
                states.append(state)
    return np.array(marks, dtype=np.float64), np.stack(states)


def largest_step(problem: Problem, state: Array) -> float:
    """2/λ_max of the tangent kernel ΣU₁U₁ᵀΣ ⊗ 1 + Σ² ⊗ VVᵀ."""
    n, m = problem.rank, problem.outputs
    upper, lower = problem.sigma[:, None] * state[:n], state[n:]
    kernel = np.kron(upper @ upper.T, np.eye(m)) + np.kron(np.diag(problem.sigma**2), lower @ lower.T)
    return 2.0 / float(np.linalg.eigvalsh(kernel)[-1])


def _diverged(problem: Problem, start: Array, lr: float, step: int) -> str:
    limit = largest_step(problem, start)
    return (
        f"gradient descent with lr = {lr:.4g} diverged by step {step}; linearized at the start the limit of "
        f"stability is {limit:.4g}: take lr below that, for example {limit / 2:.2g}."
    )
