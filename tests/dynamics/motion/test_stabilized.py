"""Many steps of gradient descent at a time, against the steps made one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.dynamics.motion import stabilized
from whichmin.dynamics.motion.motion import Start
from whichmin.dynamics.motion.recursion import RecursionMotion
from whichmin.dynamics.motion.stabilized import StabilizedMotion, chebyshev_step, largest_product, stages_for
from whichmin.dynamics.rules.gradient_descent import GradientDescent
from whichmin.dynamics.rules.momentum import Momentum
from whichmin.kernels.modes import Spectrum

ROWS = 24
RTOL = 1e-4
TIMES = [1, 7, 32, 33, 50, 117, 400, 401, 1500, 4000]
LOSSES = {
    "cross-entropy": nn.CrossEntropyLoss(),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "logistic": nn.BCEWithLogitsLoss(),
    "Huber": nn.HuberLoss(delta=0.3),
}


def start_of(name: str, seed: int = 0) -> Start:
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(ROWS, 40, generator=generator, dtype=torch.float64)
    classes = torch.arange(ROWS) % 3
    y = classes if "cross" in name or name == "smoothed" else nn.functional.one_hot(classes, 3).double()
    loss = LOSSES.get(name, nn.PoissonNLLLoss())
    objective = wm.Task(X, y, loss=loss).objective
    scale = torch.logspace(0, -2, 40, dtype=torch.float64)
    K = torch.kron((X * scale) @ (X * scale).T, torch.eye(3, dtype=torch.float64))
    f0 = torch.randn(ROWS * 3, generator=generator, dtype=torch.float64).numpy()
    return Start.at_rest(Spectrum(K, objective.gamma, 2.0**-52), objective, f0 - objective.origin)


def rates(start: Start, product: float) -> float:
    return product / (start.objective.gamma * start.spectrum.largest)


def both(start: Start, product: float) -> tuple[RecursionMotion, StabilizedMotion]:
    rule = GradientDescent(rates(start, product), rtol=RTOL)
    exact, approximated = replace(rule, rtol=0.0).motion(start), rule.motion(start)
    assert isinstance(exact, RecursionMotion)
    assert isinstance(approximated, StabilizedMotion)
    return exact, approximated


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("product", [0.1, 0.5, 1.4])
@pytest.mark.parametrize("single", [1, 10**6], ids=["single", "double"])
def test_agrees_with_single_steps(name: str, product: float, single: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stabilized, "SINGLE", single)
    exact, approximated = both(start_of(name), product)
    for t in TIMES:
        moved = exact.displacement(t)
        off = approximated.coefficients(t)[0] - exact.coefficients(t)[0]
        assert np.sqrt(off @ exact.start.spectrum.apply(off)) <= (1e-12 if t <= 32 else 10 * RTOL) * moved, t
        assert approximated.displacement(t) == pytest.approx(moved, rel=10 * RTOL)
        np.testing.assert_allclose(
            approximated.residual(t), exact.start.residual + exact.start.spectrum.apply(approximated.coefficients(t)[0])
        )
        assert approximated.loss(t) == pytest.approx(exact.start.objective.value(approximated.residual(t)), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_first_below(name: str) -> None:
    exact, approximated = both(start_of(name), 0.25)
    objective = exact.start.objective
    lowest = objective.lowest if name != "smoothed" else exact.loss(40_000)
    for part in (0.9, 0.5, 0.2, 0.05):
        until = lowest + part * (exact.loss(0) - lowest)
        steps = exact.first_below(until)
        found = approximated.first_below(until)
        assert found == pytest.approx(steps, rel=3e-3, abs=1)
        assert approximated.loss(found) < until <= approximated.loss(found - 1)
        assert both(exact.start, 0.25)[1].first_below(until, most=steps // 2) == np.inf


def test_the_length_that_is_travelled() -> None:
    exact, approximated = both(start_of("cross-entropy"), 0.25)
    for length in (0.1, 0.5, 1.0):
        whole = exact.displacement(2000)
        t = approximated.first_travelled(length * whole, 2000.0, None)
        assert t == pytest.approx(exact.first_travelled(length * whole, 2000.0, None), rel=0.15)
    until = exact.loss(300)
    assert approximated.first_travelled(1e9, 2000.0, until) == approximated.first_below(until)


def test_takes_a_fraction_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    _, approximated = both(start_of("cross-entropy"), 0.25)
    objective, calls = approximated.start.objective, []
    gradient, value_and_gradient = objective.gradient, objective.value_and_gradient
    monkeypatch.setattr(objective, "gradient", lambda r: calls.append(1) or gradient(r))
    monkeypatch.setattr(objective, "value_and_gradient", lambda r: calls.append(1) or value_and_gradient(r))
    approximated.residual(10_000)
    assert len(calls) < 1000


def test_one_limit_with_single_steps() -> None:
    exact, approximated = both(start_of("Huber"), 0.25)
    np.testing.assert_allclose(approximated.residual(np.inf), exact.residual(np.inf))


def test_serves_gradient_descent_within_its_limit_only() -> None:
    start = start_of("cross-entropy")
    assert largest_product(start, rates(start, 1.6)) is None
    found = largest_product(start, rates(start, 0.3))
    assert found is not None
    assert 0.3 - 1e-12 <= found <= 1.5
    assert largest_product(start_of("Poisson"), 1e-6) is None
    small = rates(start, 0.1)
    for rule in (
        GradientDescent(small),
        Momentum(small, momentum=0.5, rtol=RTOL),
        GradientDescent(small, weight_decay=0.1, rtol=RTOL),
    ):
        assert not isinstance(rule.motion(start), StabilizedMotion)


@pytest.mark.parametrize("stages", [2, 3, 5, 12])
def test_a_step_is_of_second_order_and_stable(stages: int) -> None:
    rate, errors = 1.0, []
    for h in (0.1, 0.05):
        y = chebyshev_step(lambda y: -rate * y, np.ones(1), -rate * np.ones(1), h, stages)
        errors.append(abs(float(y[0]) - np.exp(-rate * h)))
    assert errors[0] / errors[1] == pytest.approx(8.0, rel=0.15)
    stiffest = max(h for h in np.linspace(1, 400, 2000) if stages_for(h) <= stages)
    y = chebyshev_step(lambda y: -stiffest * y, np.ones(1), -stiffest * np.ones(1), 1.0, stages)
    assert abs(float(y[0])) <= 1.0


def test_predictions_along_a_path_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from whichmin.dynamics import prepare

    generator = torch.Generator().manual_seed(1)
    X = torch.randn(20, 8, generator=generator)
    task = wm.Task(X, (X[:, 0] > 0).long(), X, loss=nn.CrossEntropyLoss())
    model = wm.networks.MLP([8, 64, 2], seed=0)
    optimizer = lambda p: torch.optim.SGD(p, lr=0.5)  # noqa: E731
    found = wm.predict(model, task, optimizer, until=0.05, relinearize=8)
    monkeypatch.setattr(prepare, "ON_THE_WAY", 0.0)
    exact = wm.predict(model, task, optimizer, until=0.05, relinearize=8)
    assert found.test is not None
    assert exact.test is not None
    assert float(found.steps) == pytest.approx(float(exact.steps), rel=3e-3, abs=1)
    torch.testing.assert_close(found.test, exact.test, rtol=0, atol=2e-3 * float(exact.test.std()))
    assert not torch.equal(found.test, exact.test)


@pytest.mark.parametrize("name", ["cross-entropy", "logistic"])
def test_stages_follow_the_curvature_there_is(name: str):
    """Fitted rows curve the loss little: far fewer stages are stable than at the largest curvature there can be."""
    _, approximated = both(start_of(name), 1.4)
    approximated.residual(4000.0)
    node = approximated._nodes[-1]
    H = np.stack([approximated.start.objective.curve(approximated.start.residual + node.kc, e) for e in np.eye(72)])
    true = approximated._lr * np.abs(np.linalg.eigvals(approximated.start.spectrum.matrix @ H)).max()
    assert true <= node.stiffness < 2.0 * true
    assert node.stiffness < 0.5 * approximated._stiffness
