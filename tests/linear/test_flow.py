"""Laws of the flow and of gradient descent."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from oracles.linear_networks import problem
from whichmin import linear
from whichmin.errors import DivergenceError, WhichminError


@pytest.fixture
def case():
    return problem(d=12, h=30, m=3, points=7, rank=5, seed=5)


def test_at_time_zero_nothing_has_moved(case):
    U, V, X, Y = case
    run = linear.flow(U, V, X, Y, [0.0])
    torch.testing.assert_close(run.at(0)[0], U, atol=1e-13, rtol=0)
    torch.testing.assert_close(run.at(0)[1], V, atol=1e-13, rtol=0)
    known = linear.analyze_weights(U, V, X, Y)
    assert float(run.losses[0]) == pytest.approx(known.loss, rel=1e-12)
    assert float(run.solution_distances[0]) == pytest.approx(known.solution_distance, rel=1e-12)


def test_the_velocity_is_minus_the_gradient(case):
    U, V, X, Y = (t.clone() for t in case)
    U.requires_grad_()
    V.requires_grad_()
    (0.5 * ((Y - X @ U @ V.T) ** 2).sum()).backward()
    step = 1e-7
    run = linear.flow(U, V, X, Y, [0.0, step])
    for moved, start, gradient in ((run.U[1], U, U.grad), (run.V[1], V, V.grad)):
        torch.testing.assert_close((moved - start.detach()) / step, -gradient, atol=1e-4, rtol=1e-4)


def test_reduced_and_whole_coordinates_agree(case):
    times = torch.linspace(0, 1, 5)
    fast, whole = linear.flow(*case, times), linear.flow(*case, times, reduced=False)
    torch.testing.assert_close(fast.U, whole.U, atol=1e-8, rtol=0)
    torch.testing.assert_close(fast.V, whole.V, atol=1e-8, rtol=0)
    torch.testing.assert_close(fast.solution_distances, whole.solution_distances, atol=1e-8, rtol=0)
    assert float(whole.still_drift.max()) < 1e-8
    assert float(whole.imbalance_drift.max()) < 1e-8


@pytest.mark.parametrize("method", ["DOP853", "LSODA", "Radau"])
def test_imbalance_is_conserved_to_1e_8(case, method):
    run = linear.flow(*case, torch.linspace(0, 0.25, 5), method=method, rtol=1e-11, atol=1e-13)
    assert 0 < float(run.imbalance_drift.max()) < 1e-8


def test_the_integrator_follows_the_condition_of_the_data():
    for condition, method in ((1.5, "DOP853"), (1e3, "LSODA")):
        U, V, X, Y = problem(d=6, h=8, m=2, points=4, rank=4, seed=1)
        left, _, right = torch.linalg.svd(X, full_matrices=False)
        X = left @ torch.diag(torch.logspace(0, -np.log10(condition), 4, dtype=torch.float64)) @ right
        counts = {m: linear.flow(U, V, X, Y, [1.0, 5.0], method=m).evaluations for m in ("DOP853", "LSODA")}
        assert counts["DOP853"] != counts["LSODA"]
        assert linear.flow(U, V, X, Y, [1.0, 5.0]).evaluations == counts[method]


def test_the_size_of_the_problem_does_not_show(case):
    U, V, X, Y = case
    small, large = linear.flow(U, V, X, Y, [0.5]), linear.flow(64 * U, 64 * V, X, 64**2 * Y, [0.5 / 64**2])
    assert large.evaluations == small.evaluations
    torch.testing.assert_close(large.U, 64 * small.U, rtol=1e-12, atol=0)


def test_a_restart_in_the_middle_changes_nothing(case):
    U, V, X, Y = case
    whole = linear.flow(U, V, X, Y, [0.0, 0.3, 1.0])
    rest = linear.flow(*whole.at(1), X, Y, [0.7])
    torch.testing.assert_close(rest.U[0], whole.U[2], atol=1e-8, rtol=0)


def test_turning_the_hidden_layer_turns_the_weights(case):
    U, V, X, Y = case
    Q, _ = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64))
    run, turned = linear.flow(U, V, X, Y, [0.5]), linear.flow(U @ Q, V @ Q, X, Y, [0.5])
    torch.testing.assert_close(run.U[0] @ Q, turned.U[0], atol=1e-8, rtol=0)


def test_one_weight_each_has_a_closed_form():
    # u = v = √w: ẇ = 2σ w (y − σ w) with X = σ, so w is a logistic curve.
    sigma, y, w0 = 1.5, 2.0, 0.01
    times = np.linspace(0, 3, 7)
    run = linear.flow([[w0**0.5]], [[w0**0.5]], [[sigma]], [[y]], times)
    end = y / sigma
    w = end / (1 + (end / w0 - 1) * np.exp(-2 * sigma * y * times))
    np.testing.assert_allclose((run.U * run.V).ravel(), w, rtol=1e-8)


@pytest.mark.parametrize("h", [6, 20, 40])
def test_the_invariant_set_leads_to_the_minimum_norm_solution(h):
    _, _, X, Y = problem(d=9, h=h, m=2, points=4, rank=4)
    U, V = linear.initialize(9, h, 2, X=X, orthogonal=True, seed=7)
    known = linear.analyze_weights(U, V, X, Y)
    run = linear.flow(U, V, X, Y)
    assert known.on_invariant_set
    assert float(run.solution_distances[-1]) < 1e-7
    assert float((U @ V.T - linear.least_squares(X, Y)).norm()) > 0.1


def test_the_default_times_end_even_where_next_to_nothing_is_guaranteed():
    U, V, X, Y = problem(d=6, h=6, m=2, points=3, rank=3, balanced=True)
    run = linear.flow(U * (1 + 1e-9), V, X, Y)
    assert run.evaluations < 2_000_000
    assert float(run.gaps[-1]) < 1e-12


def test_the_end_interpolates_and_its_distance_is_what_is_off_the_row_space(case):
    U, V, X, Y = case
    run = linear.flow(U, V, X, Y)
    U, V = run.at(-1)
    theta = linear.least_squares(X, Y)
    assert float(run.losses[-1]) == pytest.approx(run.optimum, rel=1e-9)
    assert float((U @ V.T - theta).norm()) == pytest.approx(float(run.solution_distances[-1]), rel=1e-7)
    assert run.to_frame().shape == (201, 5)


def test_gradient_descent_is_torch_sgd():
    U, V, X, Y = problem(d=6, h=7, m=2, points=4, rank=4)
    module = nn.Sequential(nn.Linear(6, 7, bias=False), nn.Linear(7, 2, bias=False)).double()
    with torch.no_grad():
        module[0].weight.copy_(U.T)
        module[1].weight.copy_(V)
    lr = 0.05
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    for _ in range(25):
        optimizer.zero_grad()
        nn.MSELoss()(module(X), Y).backward()
        optimizer.step()
    run = linear.descend(U, V, X, Y, lr=2 * lr / Y.numel(), steps=25)
    torch.testing.assert_close(run.at(-1)[0], module[0].weight.detach().T, atol=1e-12, rtol=0)
    torch.testing.assert_close(run.at(-1)[1], module[1].weight.detach(), atol=1e-12, rtol=0)


def test_gradient_descent_tends_to_the_flow_and_its_imbalance_drifts_in_proportion_to_the_step(case):
    flow = linear.flow(*case, [0.0, 0.2])
    runs = [linear.descend(*case, lr=lr, steps=round(0.2 / lr)) for lr in (1e-3, 5e-4, 2.5e-4)]
    errors = [float((run.U[-1] - flow.U[-1]).norm()) for run in runs]
    drifts = [float(run.imbalance_drift[-1]) for run in runs]
    for values in (errors, drifts):
        assert values[0] / values[1] == pytest.approx(2, rel=0.1)
        assert values[1] / values[2] == pytest.approx(2, rel=0.1)


def test_reports_of_gradient_descent(case):
    run = linear.descend(*case, lr=1e-3, steps=7, eval_every=3)
    torch.testing.assert_close(run.times, 1e-3 * torch.tensor([0, 3, 6, 7], dtype=torch.float64))
    assert [len(linear.descend(*case, lr=1e-4, steps=k).times) for k in (50, 401, 1000)] == [51, 202, 201]


def test_a_step_that_is_too_large_names_the_limit(case):
    with pytest.raises(DivergenceError, match=r"diverged by step \d+; linearized at the start") as caught:
        linear.descend(*case, lr=5.0, steps=100)
    limit = caught.value.limit
    U, V, X, _ = case
    J = torch.func.jacrev(lambda U, V: X @ U @ V.T, (0, 1))(U, V)
    J = torch.cat([j.flatten(2).flatten(0, 1) for j in J], dim=1)
    assert limit == pytest.approx(2 / float(torch.linalg.eigvalsh(J @ J.T)[-1]), rel=1e-10)
    linear.descend(*case, lr=0.5 * limit, steps=100)


def test_a_loss_that_has_grown_a_million_fold_has_diverged(case):
    U, V, X, Y = case
    with pytest.raises(DivergenceError) as caught:
        linear.descend(*case, lr=5.0, steps=100, eval_every=1)
    step = int(re.search(r"by step (\d+)", str(caught.value))[1])
    optimum = linear.analyze_weights(*case).optimum
    gaps = []
    for _ in range(step + 1):
        E = Y - X @ U @ V.T
        gaps.append(0.5 * float((E**2).sum()) - optimum)
        U, V = U + 5.0 * X.T @ E @ V, V + 5.0 * E.T @ X @ U
    assert gaps[step] > 1e6 * gaps[0] >= max(gaps[:step])


def test_a_failing_integrator_says_when():
    with pytest.raises(WhichminError, match="stopped at time"):
        linear.flow([[1e110]], [[1e110]], [[1e3]], [[1.0]], [1.0])


def test_progress_goes_to_stderr(case, capsys):
    linear.flow(*case, [1.0], progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "gradient flow" in captured.err
