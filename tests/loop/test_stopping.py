"""What a run that ended above its aim says."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

import whichmin as wm
from oracles.linear_rules import problem, sgd
from whichmin.errors import DivergenceError, TrainingError
from whichmin.loop.stopping import Halt, remedy, stalled


def reason(model, task, factory, steps=1500, **settings):
    run = wm.train(model, task, factory, steps=steps, **settings)
    assert not run.converged
    assert run.reason.startswith(f"stopped at steps = {steps} with a training MSE of {float(run.losses[-1]):.3g}")
    return run.reason


def test_weight_decay():
    model, task = problem("over")
    told = reason(model, task, partial(torch.optim.SGD, lr=0.1, weight_decay=0.1), steps=2500)
    assert "above until = 1e-05: it has not fallen by more than 0.1%" in told
    assert "Weight decay (0.1) holds the training error up: set weight_decay=0" in told


def test_a_scheduler_that_fell_too_early():
    told = reason(*problem("over"), sgd(0.1), scheduler=partial(StepLR, step_size=20, gamma=0.1))
    assert "The scheduler has lowered the learning rate from 0.1 to" in told


def test_too_few_parameters():
    g = torch.Generator().manual_seed(0)
    task = wm.Task(torch.randn(20, 4, generator=g), torch.randn(20, generator=g))
    told = reason(nn.Linear(4, 1), task, sgd(0.1))
    assert "has 5 trainable parameters for 20 targets and may not be able to fit them" in told


def test_a_rate_that_is_too_large_to_settle():
    torch.manual_seed(0)
    task = wm.Task(torch.randn(8, 20), torch.randn(8))
    told = reason(nn.Linear(20, 1), task, partial(torch.optim.RMSprop, lr=1.0), steps=1400, batch_size=1, until=1e-12)
    assert "Since then it moved between" in told
    assert "at a learning rate of 1," in told


def test_a_gradient_of_zero():
    model, task = wm.networks.MLP([4, 12, 1], activation="relu", dtype=torch.float64, seed=0), problem("over")[1]
    for p in model.parameters():
        p.data.zero_()
    told = reason(model, task, sgd(0.1), steps=1200, until=1e-9)
    assert "The gradient is 0, at a learning rate of 0.1: start elsewhere" in told


@pytest.mark.parametrize("until", [None, 1e-5])
def test_a_run_that_was_still_falling_says_no_more(until):
    run = wm.train(*problem("over"), sgd(1e-3), steps=1500, until=until)
    assert run.reason.endswith("." if until is None else "above until = 1e-05.")
    assert "not fallen" not in run.reason


def test_when_it_counts_as_stalled():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(9))], lr=0.1)
    task = wm.Task(torch.ones(2, 1), torch.ones(2))

    def told(losses, every=1):
        return stalled(losses, range(0, every * len(losses), every), [0.1], [0.1], optimizer, task)

    assert told([1.0] * 1000) is None
    assert told([1.0] * 1001) is not None
    assert told([1.0 - 1e-5 * k for k in range(2000)]) is None, "slow, but falling"
    assert told([1.0, *[0.5] * 1500]).startswith("it has not fallen by more than 0.1% below the 0.5 of step 1, 1,499 ")
    falling = [1.0 / (1 + k) for k in range(9000)]
    assert told(falling + [falling[-1]] * 1500) is None, "less than a fifth of the run"
    assert told(falling + [falling[-1]] * 2500) is not None
    assert told([1.0] * 11, every=100) is not None
    assert told([0.1, *[50.0 - k / 100 for k in range(1500)]]) is not None, "falling, but from above where it had been"


@pytest.mark.parametrize(
    ("swing", "cause"), [(0.02, "Since then it moved between 1 and 1.02"), (0.005, "hardly moves")]
)
def test_what_swings_by_more_than_a_percent_does_not_settle(swing, cause):
    weight = nn.Parameter(torch.ones(9))
    weight.grad = torch.full((9,), 1e-3)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    task = wm.Task(torch.ones(2, 1), torch.ones(2))
    losses = [1.0 + swing * (k % 2) for k in range(1500)]
    assert cause in stalled(losses, range(1500), [0.1], [0.1], optimizer, task)


def halts_at(losses, every=1, first=0, rates=(0.1,), least=0.0):
    """The step at which training of these losses is stopped; None where it goes on."""
    halt = Halt(first, least)
    for k, loss in enumerate(losses):
        rate = rates[min(k, len(rates) - 1)]
        if halt.has_come(first + k * every, loss, [rate]):
            return first + k * every
    return None


def test_when_training_is_stopped():
    assert halts_at([1.0] * 3000) == 1000
    assert halts_at([1.0] * 3000, first=500) == 1500
    assert halts_at([1.0] * 300, every=100) == 1000
    falling = [0.999**k for k in range(4000)]
    assert halts_at(falling + [falling[-1]] * 9000) == 2 * 3999, "half of all steps"
    assert halts_at([-1.0 - 1e-3 * (k < 5) * k for k in range(3000)]) == 1004, "losses below 0"
    assert halts_at([2.0 + 0.996**k for k in range(7000)], least=2.0) is None, "what falls is what is above the lowest"
    assert halts_at([2.0 + 0.996**k for k in range(7000)]) < 6000


def test_what_still_falls_goes_on():
    assert halts_at([1 - 1.1e-7 * k for k in range(50_000)]) is None, "by 0.011 % in 1000 steps"
    plateau = [0.5 * (1 - 1.2e-7 * k) for k in range(8000)]
    assert halts_at([1.0] * 10 + plateau + [0.1] * 900) is None
    generator = torch.Generator().manual_seed(0)
    noise = 1 + 0.5 * torch.rand(4000, generator=generator, dtype=torch.float64)
    falls = torch.exp(-torch.arange(4000, dtype=torch.float64) * 10 / 2000)
    assert halts_at((noise * falls).tolist(), every=10) is None, "noise of half of the loss"


def test_a_rate_that_rises_starts_anew():
    rises = [0.1] * 900 + [0.2]
    assert halts_at([1.0] * 3000, rates=rises) == 1900
    assert halts_at([1.0] * 3000, rates=rises[::-1]) == 1000, "one that falls does not"


def dead():
    """A network whose hidden units are off at all inputs, and stay so."""
    task = wm.Task(torch.rand(8, 3, dtype=torch.float64), torch.linspace(-1, 1, 8, dtype=torch.float64))
    model = nn.Sequential(nn.Linear(3, 64, dtype=torch.float64), nn.ReLU(), nn.Linear(64, 1, dtype=torch.float64))
    with torch.no_grad():
        model[0].weight.copy_(-model[0].weight.abs())
        model[0].bias.fill_(-1.0)
    return model, task


@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_dead_network_stops_early(batch_size):
    model, task = dead()
    run = wm.train(model, task, sgd(0.1), batch_size=batch_size)
    assert run.stalled
    assert not run.converged
    assert run.steps < 4000
    assert float(run.losses[-1]) == pytest.approx(float(task.y.var(unbiased=False)), rel=0.1)
    assert run.reason.startswith(f"stopped after {run.steps} steps with a training MSE of ")
    assert "above until = 1e-05, because training stalls: it has not fallen by more than 0.01% below the" in run.reason
    assert run.reason.endswith("With steps= it goes on regardless.")
    assert wm.train(model, task, sgd(0.1), batch_size=batch_size, steps=5000).steps == 5000


def test_a_floor_of_the_loss_above_the_aim():
    g = torch.Generator().manual_seed(0)
    task = wm.Task(torch.randn(20, 4, generator=g), torch.randn(20, generator=g))
    run = wm.train(nn.Linear(4, 1), task, sgd(0.1))
    assert run.stalled
    assert run.steps < 2500
    assert "has 5 trainable parameters for 20 targets and may not be able to fit them" in run.reason


def test_a_slow_run_that_gets_there_is_not_stopped():
    model, task = problem("over")
    run = wm.train(model, task, sgd(1e-2), until=1e-2)
    assert run.converged
    assert not run.stalled
    assert run.steps > 3000


def test_a_plateau_that_ends():
    """A saddle: the product of two small numbers is to be 1, and for thousands of steps it hardly grows."""

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Parameter(torch.full((1, 1), 2e-3, dtype=torch.float64)) for _ in range(2))

        def forward(self, x):
            return x * self.a * self.b

    task = wm.Task(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64))
    run = wm.train(Product(), task, sgd(1.5e-3), until=1e-6)
    assert run.converged
    halfway = int((run.losses > 0.9).sum())
    assert halfway > 1500, "the plateau"


def test_noise_of_mini_batches_does_not_stop_training_that_gets_there():
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.02), batch_size=1, until=1e-6)
    assert run.converged
    assert run.steps > 1000


def test_a_prediction_by_training_stops_as_training_does():
    model, task = dead()
    predicted = wm.predict(model, task, partial(torch.optim.Adam, lr=1e-2), batch_size=3, until=1e-5)
    run = wm.train(model, task, partial(torch.optim.Adam, lr=1e-2), batch_size=3, until=1e-5)
    assert run.stalled
    assert predicted.method == "trained"
    assert predicted.steps == run.steps
    assert any(note.startswith("training stalls at a training MSE of") for note in predicted.notes)


def large(loss=None):
    """Targets of some hundred thousands, and a network that begins with outputs of about one."""
    g = torch.Generator().manual_seed(0)
    X = torch.randn(20, 4, generator=g)
    return wm.networks.MLP([4, 32, 1]), wm.Task(X, 2e5 + 5e4 * X[:, :1] ** 2, loss=loss)


@pytest.mark.parametrize(("verb", "error"), [(wm.train, TrainingError), (wm.predict, DivergenceError)])
def test_large_targets_are_named_where_training_diverges(verb, error):
    model, task = large()
    with pytest.raises(error, match="no longer finite") as caught:
        verb(model, task, partial(torch.optim.SGD, lr="half"), steps=50)
    size = float(task.y.square().mean().sqrt())
    assert f"The likely cause is the size of the targets, {size:.3g} (root mean square): networks begin" in str(
        caught.value
    )
    assert 'or lower the learning rate: lr="monotone" (--lr monotone) finds one' in str(caught.value)
    scaled = wm.Task(task.X, (task.y - task.y.mean()) / task.y.std())
    assert wm.train(model, scaled, partial(torch.optim.SGD, lr="half"), steps=50).steps == 50


def test_what_to_do_about_divergence_where_targets_are_not_large():
    assert remedy(problem("over")[1]) == "Lower the learning rate."
    assert remedy(large(nn.PoissonNLLLoss())[1]) == "Lower the learning rate.", "counts are not to be scaled"
    assert remedy(large(nn.L1Loss())[1]) == "Lower the learning rate.", "its minimizer is not known"
