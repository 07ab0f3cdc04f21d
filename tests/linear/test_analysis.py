"""The numbers of an analysis against their definitions, and the guarantees against integrated flows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import whichmin as wm
from oracles.linear_networks import problem
from whichmin import linear
from whichmin.linear import _checks
from whichmin.linear._problem import pose
from whichmin.linear.imbalance import Levels

SIZES = st.integers(2, 40)


@pytest.fixture
def case():
    return problem(d=12, h=9, m=3, points=7, rank=5, seed=3)


def test_numbers_follow_their_definitions(case):
    U, V, X, Y = case
    known = linear.analyze_weights(U, V, X, Y)
    _, sigma, right = torch.linalg.svd(X)
    U1, U2 = right[:5] @ U, right[5:] @ U
    spectrum = torch.linalg.eigvalsh(U1.T @ U1 - V.T @ V).flip(0)
    c = max(float(spectrum[4]), 0) + max(-float(spectrum[9 - 3]), 0)
    delta = math.hypot(float((V @ U2.T).norm()), float((U1 @ U2.T).norm()))
    theta = torch.linalg.pinv(X, rtol=1e-12) @ Y
    loss = 0.5 * float(((Y - X @ U @ V.T) ** 2).sum())
    optimum = 0.5 * float(((Y - X @ theta) ** 2).sum())
    exponent = float(sigma[0]) * math.sqrt(2 * loss) / (float(sigma[4]) ** 2 * c)
    assert known.rank == 5
    torch.testing.assert_close(known.imbalance, U1.T @ U1 - V.T @ V, atol=1e-12, rtol=0)
    torch.testing.assert_close(known.imbalance_spectrum, spectrum, atol=1e-12, rtol=0)
    torch.testing.assert_close(known.least_squares, theta, atol=1e-11, rtol=0)
    torch.testing.assert_close(linear.least_squares(X, Y), theta, atol=1e-11, rtol=0)
    assert known.imbalance_level == pytest.approx(c, rel=1e-10)
    assert known.rate == pytest.approx(2 * float(sigma[4]) ** 2 * c, rel=1e-10)
    assert known.invariant_distances == pytest.approx((float((V @ U2.T).norm()), float((U1 @ U2.T).norm())))
    assert known.invariant_distance == pytest.approx(delta)
    assert known.solution_distance == pytest.approx(float((U @ V.T - theta).norm()))
    assert (known.loss, known.optimum) == pytest.approx((loss, optimum))
    assert known.bound == pytest.approx(delta * math.exp(exponent), rel=1e-9)
    assert known.tight_bound < known.bound
    assert known.tight_rate >= known.rate
    assert known.final_rate > known.tight_rate


def test_current_rate_is_the_gradient_over_the_gap(case):
    U, V, X, Y = (t.clone() for t in case)
    U.requires_grad_()
    V.requires_grad_()
    loss = 0.5 * ((Y - X @ U @ V.T) ** 2).sum()
    loss.backward()
    known = linear.analyze_weights(U, V, X, Y)
    squared = float((U.grad**2).sum() + (V.grad**2).sum())
    assert known.current_rate == pytest.approx(squared / (known.loss - known.optimum), rel=1e-10)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(1, 8), m=st.integers(1, 8), h=st.integers(1, 18), ratio=st.floats(-3, 3), seed=st.integers(0, 10**6)
)
def test_the_factors_are_bounded_by_imbalance_and_product(n, m, h, ratio, seed):
    generator = np.random.default_rng(seed)
    S = generator.standard_normal((n, h)) * np.exp(ratio)
    V = generator.standard_normal((m, h)) + (S[:m] if m <= n and seed % 2 else 0)
    values = np.sort(np.linalg.eigvalsh(S.T @ S - V.T @ V))[::-1]
    levels = Levels(
        upper=max(values[n - 1], 0.0) if n <= h else 0.0,
        lower=max(-values[h - m], 0.0) if m <= h else 0.0,
        top=max(values[0], 0.0),
        bottom=max(-values[-1], 0.0),
    )
    product = np.linalg.svd(S @ V.T, compute_uv=False)
    by_n = product[n - 1] if n <= m else 0.0
    by_m = product[m - 1] if m <= n else 0.0
    actual = np.linalg.eigvalsh(S @ S.T)[0] + np.linalg.eigvalsh(V @ V.T)[0]
    bound = float(levels.factors(by_n, by_m))
    assert levels.total <= bound * (1 + 1e-12)
    assert bound <= actual + 1e-10 * (S**2).sum() + 1e-10 * (V**2).sum()


def test_for_one_input_unit_and_output_the_bound_on_the_factors_is_an_equality():
    u, v = 1.7, -0.4
    levels = Levels(upper=u**2 - v**2, lower=0.0, top=u**2 - v**2, bottom=0.0)
    assert float(levels.factors(abs(u * v), abs(u * v))) == pytest.approx(u**2 + v**2, rel=1e-14)
    known = linear.analyze_weights([[u]], [[v]], [[2.0]], [[2.0 * u * v]])
    assert known.tight_rate == pytest.approx(2 * 4 * (u**2 + v**2), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.tuples(SIZES, SIZES, SIZES, SIZES),
    deficit=st.sampled_from([0, 0, 1, 5]),
    size=st.sampled_from([0.1, 1.0, 3.0]),
    exponent=st.floats(0.25, 0.6),
    balanced=st.sampled_from([False, False, False, True]),
    seed=st.integers(0, 10**6),
)
def test_no_flow_violates_a_bound(sizes, deficit, size, exponent, balanced, seed):
    d, h, m, points = sizes
    rank = max(1, min(d, points) - deficit)
    case = problem(d, h, m, points, rank, size=size, exponent=exponent, seed=seed, balanced=balanced)
    known = linear.analyze_weights(*case)
    end = min(5.0, 20 / known.rate if known.rate > 0 else 5.0)
    run = linear.flow(*case, torch.linspace(0, end, 41), rtol=1e-9)
    slack = 1e-7 * known.loss  # the integrator's own error
    assert (run.losses <= known.loss_bound(run.times) + slack).all()
    assert (run.losses <= known.tight_loss_bound(run.times) + slack).all()
    assert (known.tight_loss_bound(run.times) <= known.loss_bound(run.times) * (1 + 1e-12)).all()
    inside = 2 * run.gaps / known.singular_values[-1] ** 2
    for bound in (known.bound, known.tight_bound):
        assert (
            run.solution_distances**2 <= min(bound, 1e100) ** 2 + inside + 1e-7 * run.solution_distances[0] ** 2
        ).all()
    assert known.tight_bound <= known.bound
    assert float(run.imbalance_drift.max()) <= 1e-8 * max(1.0, float(case[0].norm() ** 2 + case[1].norm() ** 2))


def test_with_one_of_everything_the_tight_guarantees_are_sharp():
    # One direction of data, one unit, one output, one direction that no input sees; all signs alike.
    case = [[[0.9], [0.5]], [[0.7]], [[2.0, 0.0]], [[5.0]]]
    known = linear.analyze_weights(*case)
    run = linear.flow(*case, torch.linspace(0, 3, 31))
    assert float(run.solution_distances[-1]) <= known.tight_bound
    assert float(run.solution_distances[-1]) == pytest.approx(known.tight_bound, rel=0.01)
    tight = known.tight_loss_bound(run.times) - known.optimum
    seen = run.gaps > 1e-12
    assert (run.gaps[seen] <= tight[seen] * (1 + 1e-6)).all()
    torch.testing.assert_close(run.gaps[:4], tight[:4], rtol=0.1, atol=0)
    late = -(run.gaps[8] / run.gaps[6]).log() / (run.times[8] - run.times[6])
    assert float(late) == pytest.approx(known.final_rate, rel=1e-3)


def test_the_tight_bound_is_finite_where_imbalance_says_nothing():
    U, V, X, _ = problem(d=6, h=8, m=3, points=3, rank=3, seed=1, balanced=True)
    with_targets = X @ U @ V.T
    known = linear.analyze_weights(U, V, X, with_targets + 1e-2)
    assert known.imbalance_level == 0
    assert known.rate == 0
    assert known.bound == math.inf
    assert math.isfinite(known.tight_bound)
    assert known.tight_rate > 0
    assert any("vacuous" in note and "still guarantee" in note for note in known.notes)
    run = linear.flow(U, V, X, with_targets + 1e-2)
    assert (run.losses <= known.tight_loss_bound(run.times) + 1e-12).all()
    assert run.solution_distances[-1] <= known.tight_bound


def test_zero_imbalance_far_from_the_solution_is_vacuous_and_says_so():
    case = problem(d=6, h=8, m=3, points=3, rank=3, seed=1, size=5.0, balanced=True)
    known = linear.analyze_weights(*case)
    assert known.bound == known.tight_bound == math.inf
    assert any("not guaranteed" in note for note in known.notes)
    torch.testing.assert_close(known.loss_bound([0.0, 1.0]), torch.full((2,), known.loss, dtype=torch.float64))


def test_width_below_the_hypothesis_is_a_note():
    case = problem(d=12, h=6, m=3, points=5, rank=5, seed=2)
    known = linear.analyze_weights(*case)
    failing = {a.name: a for a in known.assumptions if not a.holds}
    assert "width" in failing
    assert "n + m − 1 = 7" in failing["width"].detail
    assert "still conserved" in failing["width"].detail
    assert any(
        "out of reach" in note for note in linear.analyze_weights(case[0][:, :2], case[1][:, :2], *case[2:]).notes
    )


@pytest.mark.parametrize(("h", "holds"), [(6, False), (7, True), (8, True)])
def test_the_hypothesis_on_the_width_begins_at_rank_plus_outputs_minus_one(h, holds):
    known = linear.analyze_weights(*problem(d=12, h=h, m=3, points=5, rank=5))
    assert {a.name: a.holds for a in known.assumptions}["width"] == holds


def test_full_column_rank_has_one_minimizer():
    case = problem(d=4, h=10, m=2, points=9, rank=4)
    known = linear.analyze_weights(*case)
    assert known.on_invariant_set
    assert known.bound == 0
    assert known.optimum > 0
    assert any("one minimizer" in note for note in known.notes)


def test_wide_random_networks_meet_every_hypothesis_but_the_invariant_set():
    known = linear.analyze_weights(*problem(d=12, h=60, m=3, points=5, rank=5))
    assert [a.holds for a in known.assumptions] == [True, True, True, False]
    assert set(known.to_frame()["quantity"]) >= {"rate", "tight_rate", "bound"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_module_and_a_task_are_the_same_analysis(dtype):
    U, V, X, Y = (t.to(dtype) for t in problem(d=12, h=9, m=3, points=7, rank=5))
    module = nn.Sequential(nn.Linear(12, 9, bias=False), nn.Linear(9, 3, bias=False)).to(dtype)
    with torch.no_grad():
        module[0].weight.copy_(U.T)
        module[1].weight.copy_(V)
    known, direct = linear.analyze(module, wm.Task(X, Y)), linear.analyze_weights(U, V, X, Y)
    assert known.bound == direct.bound
    assert known.rank == 5


def test_truncation_reports_the_rank():
    X = np.diag([1.0, 0.5, 1e-9])
    assert pose(_checks.data(X, np.eye(3))).rank == 3
    assert pose(_checks.data(X, np.eye(3)), rcond=1e-6).rank == 2
    U, V = linear.initialize(3, 8, 3)
    assert linear.analyze_weights(U, V, X, np.eye(3), rcond=1e-6).optimum == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("multiple", "rank"), [(0.5, 2), (5.0, 3), (20.0, 3)])
def test_the_rank_follows_the_type_of_the_inputs(dtype, multiple, rank):
    small = 8.0 * multiple * 10 * torch.finfo(dtype).eps
    X, Y = torch.diag(torch.tensor([8.0, 1.0, small], dtype=torch.float64)).to(dtype), torch.eye(3)
    U, V = linear.initialize(3, 8, 3)
    for inputs in (X, X.numpy()):
        assert linear.analyze_weights(U, V, inputs, Y).rank == rank
    assert int((linear.least_squares(X, Y) != 0).sum()) == rank
    on_set, _ = linear.initialize(3, 8, 3, X=X, orthogonal=True)
    assert bool((on_set[2] == U[2]).all()) == (rank == 3), "the third input is in the row space"


def test_features_of_low_rank_have_it_in_each_type():
    _, _, X, Y = problem(d=12, h=9, m=3, points=7, rank=5)
    U, V = linear.initialize(12, 9, 3)
    assert [linear.analyze_weights(U, V, X.to(t), Y).rank for t in (torch.float32, torch.float64)] == [5, 5]
