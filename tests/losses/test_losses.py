"""Losses against torch's own: value, gradient, curvature, the least value, and the objective on flattened outputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.losses import KINDS, numbers
from whichmin.errors import DataError, InputError
from whichmin.losses import MeanSquaredError, loss_of, mean_square, root_mean_square

EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
#: Those whose curvature has no bound.
UNBOUNDED = ("poisson", "absolute", "a function", "a function of classes")


def setting(kind, seed=1):
    task = kind.task()
    f = 2 * torch.randn(task.n, task.outputs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return task, f, f.reshape(-1).numpy() - task.objective.origin


@EVERY
def test_value_and_gradient_are_torchs(kind):
    task, f, r = setting(kind)
    moving = f.clone().requires_grad_()
    value = kind.torch(moving, task.y)
    (gradient,) = torch.autograd.grad(value, moving)
    value = value.detach()
    assert task.loss.value(f, task.y) == pytest.approx(float(value), rel=1e-13)
    assert float(task.loss(f, task.y)) == pytest.approx(float(value), rel=1e-13)
    assert torch.allclose(task.loss.gradient(f, task.y), gradient, rtol=1e-12, atol=1e-15)
    assert task.objective.value(r) == pytest.approx(float(value), rel=1e-12)
    assert task.objective.gradient(r) == pytest.approx(gradient.reshape(-1).numpy(), rel=1e-11, abs=1e-15)
    both = task.objective.value_and_gradient(r)
    assert both[0] == pytest.approx(float(value), rel=1e-12)
    assert both[1] == pytest.approx(gradient.reshape(-1).numpy(), rel=1e-11, abs=1e-15)


@EVERY
def test_the_gradient_of_a_batch_is_that_of_its_rows(kind):
    task, f, r = setting(kind)
    rows = torch.tensor([3, 0, 5])
    batch = f[rows].clone().requires_grad_()
    (expected,) = torch.autograd.grad(kind.torch(batch, task.y[rows]), batch)
    flattened = (rows[:, None] * task.outputs + torch.arange(task.outputs)).reshape(-1).numpy()
    assert task.objective.gradient(r, flattened) == pytest.approx(expected.reshape(-1).numpy(), rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("name", KINDS)
def test_the_curvature_is_the_hessian_and_gamma_its_bound(name):
    task, f, r = setting(KINDS[name])
    H = torch.autograd.functional.hessian(lambda z: KINDS[name].torch(z.view_as(f), task.y), f.reshape(-1)).numpy()
    v = np.random.default_rng(0).standard_normal(len(r))
    assert task.objective.curve(r, v) == pytest.approx(H @ v, rel=1e-10, abs=1e-14)
    if name not in UNBOUNDED:
        assert np.linalg.eigvalsh(H)[-1] <= task.objective.gamma * (1 + 1e-12)
    if task.loss.is_quadratic:
        assert np.linalg.eigvalsh(H)[-1] == pytest.approx(task.objective.gamma, rel=1e-12)
        assert task.objective.gradient(r) == pytest.approx(task.objective.gamma * r, rel=1e-13)


def test_gamma_is_the_curvature_where_that_is_largest():
    two = wm.Task(torch.zeros(4, 1), torch.tensor([0, 1, 1, 0]), loss=nn.CrossEntropyLoss())
    H = torch.autograd.functional.hessian(lambda z: nn.CrossEntropyLoss()(z.view(4, 2), two.y), torch.zeros(8))
    assert float(torch.linalg.eigvalsh(H)[-1]) == pytest.approx(two.objective.gamma, rel=1e-6)
    bits = wm.Task(torch.zeros(4, 1), torch.tensor([0.0, 1, 1, 0]), loss=nn.BCEWithLogitsLoss())
    assert bits.objective.gamma == pytest.approx(1 / 16)


@EVERY
def test_the_lowest_loss_is_reached_at_the_minimizer_only(kind):
    task, _, r = setting(kind)
    objective = task.objective
    assert objective.is_bounded is kind.minimizer
    if objective.minimizer is not None:
        least = objective.minimizer - objective.origin
        assert objective.value(least) == pytest.approx(objective.lowest, rel=1e-10, abs=1e-14)
        assert objective.gradient(least) == pytest.approx(0.0, abs=1e-14)
    assert objective.value(r) > objective.lowest
    assert objective.excess(objective.value(r)) == objective.value(r) - max(objective.lowest, -1e300) or math.isinf(
        objective.lowest
    )


@pytest.mark.parametrize("name", [n for n, k in KINDS.items() if k.minimizer])
def test_the_limit_is_a_combination_of_gradients_with_the_lowest_loss(name):
    task, _, r = setting(KINDS[name])
    A = np.random.default_rng(3).standard_normal((len(r), 60))
    K = A @ A.T
    c = task.objective.limit(r, K)
    assert task.objective.value(r + K @ c) == pytest.approx(task.objective.lowest, rel=1e-9, abs=1e-12)
    if task.objective.minimizer is None:  # gradients of a softmax add up to zero in every row
        assert c.reshape(task.n, -1).sum(1) == pytest.approx(0.0, abs=1e-10)


def test_outputs_far_apart_neither_over_nor_underflow():
    task = wm.Task(torch.zeros(2, 1), torch.tensor([0, 2]), loss=nn.CrossEntropyLoss())
    f = torch.tensor([[2000.0, 0.0, -2000.0], [5.0, 5.0, 6.0]], dtype=torch.float64)
    value, gradient = task.objective.value_and_gradient(f.reshape(-1).numpy())
    assert value == pytest.approx(float(nn.CrossEntropyLoss()(f, task.y)), rel=1e-12)
    moving = f.clone().requires_grad_()
    (expected,) = torch.autograd.grad(nn.CrossEntropyLoss()(moving, task.y), moving)
    assert gradient == pytest.approx(expected.reshape(-1).numpy(), abs=1e-15)


def test_class_numbers_that_do_not_count():
    y = torch.tensor([0, 2, -100, 1])
    task = wm.Task(torch.zeros(4, 1), y, loss=nn.CrossEntropyLoss())
    f = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert task.objective.value(f.reshape(-1).numpy()) == pytest.approx(float(nn.CrossEntropyLoss()(f, y)), rel=1e-13)
    assert not task.objective.gradient(f.reshape(-1).numpy()).reshape(4, 3)[2].any()


def test_class_numbers_at_several_positions():
    y = torch.tensor([[0, 2], [1, 1], [2, 0]])
    task = wm.Task(torch.zeros(3, 1), y, loss=nn.CrossEntropyLoss())
    f = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert task.outputs == 6
    expected = nn.CrossEntropyLoss()(f.reshape(3, 2, 3).movedim(-1, 1), y)
    assert task.objective.value(f.reshape(-1).numpy()) == pytest.approx(float(expected), rel=1e-13)
    assert float(task.loss(f, task.y)) == pytest.approx(float(expected), rel=1e-13)


def test_a_task_holds_its_loss():
    X, y = torch.randn(4, 2), torch.randn(4)
    assert wm.Task(X, y).loss == MeanSquaredError() == wm.Task(X, y, loss=nn.MSELoss()).loss
    assert wm.Task(X, y, loss=nn.MSELoss()).to(torch.float64).loss == MeanSquaredError()
    assert loss_of(None) == loss_of(MeanSquaredError())
    classes = wm.Task(X, torch.tensor([0, 1, 0, 3]), loss=nn.CrossEntropyLoss())
    assert classes.y.dtype is torch.int64
    assert classes.y.shape == (4,)
    assert (classes.outputs, classes.classes) == (4, (0, 1, 2, 3))
    assert classes.to(torch.float64).y.dtype is torch.int64
    assert wm.Task(X, torch.tensor([0, 1, 0, 1]), loss=nn.CrossEntropyLoss(), classes=10).outputs == 10


@pytest.mark.parametrize(
    ("y", "loss", "settings", "message"),
    [
        (torch.randn(4), "mse", {}, "loss is 'mse'; expected one of torch's"),
        (torch.randn(4), nn.CrossEntropyLoss, {}, r"the class CrossEntropyLoss; expected one of it"),
        (torch.randn(4), nn.MSELoss(reduction="none"), {}, "a loss for each row"),
        (torch.randn(4), lambda f, y: ((f - y) ** 2).mean() ** 2, {}, "neither the mean nor the sum"),
        (torch.randn(4), lambda f, y: (f - y) ** 2, {}, "expected a scalar"),
        (torch.randn(4), lambda f, y: (f.log() - y).mean(), {}, "expected a finite number"),
        (torch.randn(4), lambda f, y: torch.zeros(()), {}, "has no gradient"),
        (torch.tensor([0, 1, 2, 5]), nn.CrossEntropyLoss(), {"classes": 3}, "class number 5 in row 3; expected 0 to 2"),
        (torch.tensor([0, -1, 2, 1]), nn.CrossEntropyLoss(), {}, "-1 in row 1; expected class numbers from 0"),
        (torch.tensor([-100] * 4), nn.CrossEntropyLoss(), {}, "nothing is to be fitted"),
        (torch.tensor([[0.5, 0.6]] * 4), nn.CrossEntropyLoss(), {}, r"row 0 of y add up to 1\.1"),
        (torch.tensor([[1.5, -0.5]] * 4), nn.CrossEntropyLoss(), {}, "expected probabilities from 0 to 1"),
        (torch.tensor([0.0, 1, 2, 1]), nn.CrossEntropyLoss(), {}, r"class numbers are integers: y\.long\(\)"),
        (torch.tensor([0, 1, 2, 1]), nn.CrossEntropyLoss(weight=torch.ones(2)), {}, "class number 2 in row 2"),
        (torch.tensor([1.0, -1, 1, 1]), nn.BCEWithLogitsLoss(), {}, r"-1 in row 1; expected 0, 1 or prob.*\(y > 0\)"),
        (torch.tensor([1.0, -1, 1, 1]), nn.PoissonNLLLoss(), {}, "expected counts"),
        (torch.randn(4), nn.MSELoss(), {"classes": 2}, "classes are of class numbers"),
        (torch.rand(4), nn.BCEWithLogitsLoss(weight=torch.ones(4, 1)), {}, "weights of single rows"),
        (torch.rand(4, 2), nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), {}, "3 numbers for positive; expected 2"),
    ],
)
def test_what_does_not_go_together_is_refused_when_the_task_is_made(y, loss, settings, message):
    with pytest.raises((InputError, DataError), match=message):
        wm.Task(torch.randn(4, 2), y, loss=loss, **settings)


def test_class_numbers_with_the_mean_square_error_show_both_remedies():
    with pytest.raises(
        DataError, match=r"loss=torch.nn.CrossEntropyLoss\(\) with y = .*or a target for each"
    ) as raised:
        wm.Task(torch.randn(9, 2), torch.tensor([0, 1, 2] * 3))
    assert "one_hot" in str(raised.value)


def test_a_training_loss_that_no_outputs_have_is_refused():
    task = wm.Task(torch.zeros(3, 1), numbers(3, 3, torch.Generator()), loss=nn.CrossEntropyLoss(label_smoothing=0.1))
    p = 0.1 / 3
    lowest = -(1 - 2 * p) * math.log(1 - 2 * p) - 2 * p * math.log(p)
    assert task.objective.lowest == pytest.approx(lowest, rel=1e-12)
    with pytest.raises(InputError, match=r"above 0\.29"):
        task.check_until(0.99 * lowest)
    task.check_until(1.01 * lowest)
    with pytest.raises(InputError, match="positive training MSE"):
        wm.Task(torch.zeros(3, 1), torch.randn(3)).check_until(0.0)


def shifted(f, y):
    return (f - y).square().mean() - 5.0


@pytest.mark.parametrize(
    ("loss", "y", "aim"),
    [
        (None, torch.tensor([0.5, -1.0, 2.0]), 1e-5),
        (nn.CrossEntropyLoss(), torch.tensor([0, 1, 1]), 1e-5),
        (nn.PoissonNLLLoss(), torch.full((3,), math.e, dtype=torch.float64), 1e-5),
        (nn.PoissonNLLLoss(), torch.full((3,), math.e**2, dtype=torch.float64), 1e-5 - math.e**2),
        (nn.BCEWithLogitsLoss(), torch.full((3,), 0.5), 1e-5 + math.log(2)),
        (shifted, torch.tensor([0.5, -1.0, 2.0]), None),
    ],
)
def test_training_ends_just_above_the_lowest_loss_unless_told(loss, y, aim):
    task = wm.Task(torch.randn(3, 2), y, loss=loss)
    assert task.aim("auto") == (None if aim is None else pytest.approx(aim, abs=1e-12))
    assert task.aim(None) is None
    assert task.aim(7.0) == 7.0
    with pytest.raises(InputError, match="until is later"):
        task.aim("later")


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (nn.BCELoss(), torch.ones(8, 2), r"between 0 and 1. Outputs of a linearized network .*BCEWithLogitsLoss"),
        (nn.PoissonNLLLoss(log_input=False), torch.ones(8, 2), r"is nan on outputs of about 1; .*f\.sigmoid\(\), y\)"),
        (
            nn.NLLLoss(),
            torch.tensor([0, -100, 1, 0]),
            r"is nan on row 1 alone\..*CrossEntropyLoss\(\), which is NLLLoss",
        ),
    ],
)
def test_losses_of_some_outputs_or_rows_name_the_one_to_take(loss, y, message):
    with pytest.raises(InputError, match=message):
        wm.Task(torch.zeros(len(y), 3), y, loss=loss)


@pytest.mark.parametrize("loss", [nn.HuberLoss(), nn.SmoothL1Loss(), nn.BCEWithLogitsLoss(), nn.CrossEntropyLoss()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_targets_of_another_type_than_the_outputs(loss, dtype):
    y = torch.tensor([[0.25, 0.75], [1.0, 0.0]], dtype=dtype)
    f = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    task = wm.Task(torch.zeros(2, 3), y, loss=loss)
    (gradient,) = torch.autograd.grad(loss(moving := f.clone().requires_grad_(), y.float()), moving)
    assert torch.allclose(task.loss.gradient(f, task.y), gradient, rtol=1e-3)


def test_accuracy_and_loss_of_test_outputs():
    f = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 3.0, 1.0]])
    X = torch.zeros(3, 1)
    y = torch.tensor([0, 2, 2])
    task = wm.Task(X, y, X, y, nn.CrossEntropyLoss())
    assert task.accuracy(f) == pytest.approx(2 / 3)
    assert task.test_loss(f) == pytest.approx(float(nn.CrossEntropyLoss()(f, y)), rel=1e-6)
    bits = wm.Task(X, torch.tensor([0.0, 1, 1]), X, torch.tensor([0.0, 1, 1]), nn.BCEWithLogitsLoss())
    assert bits.accuracy(torch.tensor([[0.2], [0.3], [0.4]])) == pytest.approx(2 / 3)  # a logit decides at 0
    signs = wm.Task(X, torch.tensor([-1.0, 1, 1]), X, torch.tensor([-1.0, 1, 1]))
    assert signs.accuracy(torch.tensor([[-0.2], [0.3], [-0.4]])) == pytest.approx(2 / 3)
    assert math.isnan(wm.Task(X, torch.randn(3), X, torch.randn(3)).accuracy(f[:, :1]))
    assert math.isnan(wm.Task(X, y, X, loss=nn.CrossEntropyLoss()).accuracy(f))


def test_roots_and_squares():
    assert mean_square(np.array([3.0, 4.0])) == 12.5
    assert root_mean_square(np.array([3.0, 4.0])) == root_mean_square(torch.tensor([[3.0], [4.0]])) == math.sqrt(12.5)
    assert root_mean_square(torch.tensor([math.nan, 1.0])) == math.inf
