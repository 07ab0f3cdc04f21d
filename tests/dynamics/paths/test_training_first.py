"""Real training that comes before a kernel which would take longer, and what is made of the kernel afterwards."""

import gc
import pickle
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.dynamics.paths.clock import LINEARIZATION, STEP, untimed
from whichmin.dynamics.paths.cost import PAIR
from whichmin.dynamics.paths.origin import Origin
from whichmin.dynamics.paths.position import MovingNetwork
from whichmin.dynamics.paths.real import RealTraining
from whichmin.late import is_late
from whichmin.tangent.features import Features

#: The steps of a training, and what a linearization is taken to last beside it.
SHORT, LONG = 20, 1.0


def close(one: torch.Tensor, other: torch.Tensor, atol: float) -> None:
    torch.testing.assert_close(one, other, rtol=atol, atol=atol)


def problem(loss: nn.Module | None = None) -> tuple[nn.Module, wm.Task]:
    torch.manual_seed(0)
    X, others = torch.randn(180, 6, dtype=torch.float64), torch.randn(9, 6, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(6, 40), nn.Tanh(), nn.Linear(40, 3)).double()
    targets = torch.sin(X[:, :3]) if loss is None else torch.arange(180) % 3
    return model, wm.Task(X, targets, others, **({} if loss is None else {"loss": loss}))


@pytest.fixture(autouse=True)
def _cheap_steps(monkeypatch) -> None:
    """A step counts as it does where nothing is timed, other tests make it dear, and a linearization as ``LONG``."""
    monkeypatch.setattr(RealTraining, "seconds_per_step", STEP)
    monkeypatch.setattr(Origin, "least_seconds", LONG)


@pytest.fixture
def starts(monkeypatch) -> list[MovingNetwork]:
    """The networks that a kernel was made of."""
    made: list[MovingNetwork] = []
    start = MovingNetwork.start

    def counted(self, *arguments):
        made.append(self)
        return start(self, *arguments)

    monkeypatch.setattr(MovingNetwork, "start", counted)
    return made


SGD = partial(torch.optim.SGD, lr=0.05)
OPTIMIZERS = [
    SGD,
    wm.Recipe(SGD, batch_size=30),
    partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=1e-3),
    partial(torch.optim.Adam, lr=1e-3),
    wm.Recipe(partial(torch.optim.Adam, lr=1e-3), batch_size=30),
    partial(torch.optim.NAdam, lr=1e-3),
]


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()], ids=["mse", "ce"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_kernel_is_made_before_it_is_asked_for(optimizer, loss, starts):
    model, task = problem(loss)
    with untimed():
        found = wm.predict(model, task, optimizer, steps=SHORT)
    assert found.method == "trained"
    assert starts == []
    assert "trained" in repr(found)
    assert starts == []
    recipe = optimizer if isinstance(optimizer, wm.Recipe) else wm.Recipe(optimizer)
    run = wm.train(model, task, recipe, steps=SHORT, until=None, progress=False)
    assert run.test is not None
    close(found.test, run.test, 1e-12)
    assert is_late(found, "terms")
    assert found.test is not None
    close(torch.stack(list(found.terms.values())).sum(0), found.test, 1e-9)
    assert len(starts) == 1
    assert found.max_lr > 0
    assert len(found.eigenvalues) == 540
    assert len(starts) == 1


def test_the_terms_are_those_of_a_prediction_that_made_the_kernel_first(starts):
    model, task = problem()
    with untimed():
        late = wm.predict(model, task, SGD, steps=SHORT)
    at_once = wm.predict(model, task, SGD, steps=SHORT, relinearize="path")
    assert len(starts) == 1
    assert set(late.terms) == set(at_once.terms)
    for name in ("interpolant", "initialization", "unconverged"):
        close(late.terms[name], at_once.terms[name], 1e-8)
    close(late.eigenvalues, at_once.eigenvalues, 1e-9)
    assert late.limit == pytest.approx(at_once.limit)
    assert late.best_lr == pytest.approx(at_once.best_lr)
    assert late.rates is not None
    assert at_once.rates is not None


def test_a_kernel_that_takes_little_is_made_first(starts, monkeypatch):
    model, task = problem()
    monkeypatch.setattr(Origin, "least_seconds", 1e-3)
    with untimed():
        wm.predict(model, task, SGD, steps=SHORT)
    assert len(starts) == 1


def test_a_kernel_that_took_long_is_not_followed_up_or_held(starts, monkeypatch):
    """The guess was too small: with what comes after it, it takes more of training's time than it may."""
    model, task = problem()
    monkeypatch.setattr(Origin, "least_seconds", 1e-3)
    monkeypatch.setattr(Origin, "seconds", property(lambda self: len(self.features.outputs) and LONG))
    gc.collect()
    before = sum(isinstance(each, Features) for each in gc.get_objects())
    found = wm.predict(model, task, SGD, steps=SHORT)
    assert len(starts) == 1
    assert found.method == "trained"
    gc.collect()
    assert sum(isinstance(each, Features) for each in gc.get_objects()) == before
    assert set(found.terms) >= {"interpolant", "initialization"}
    assert len(starts) == 2


def test_what_a_linearization_takes_is_guessed_from_a_few_rows(monkeypatch, starts):
    monkeypatch.undo()
    model, task = problem()
    network = MovingNetwork(model, task)
    origin = Origin(network)
    with untimed():
        assert origin.least_seconds == LINEARIZATION
    assert starts == []
    guessed = Origin(network).least_seconds
    made = Origin(network)
    assert made.seconds > 0
    assert made.least_seconds == made.seconds
    assert 540**2 * PAIR < guessed < 100 * made.seconds


def test_what_the_model_does_later_changes_nothing():
    model, task = problem()
    with untimed():
        found, same = (wm.predict(model, task, SGD, steps=SHORT) for _ in range(2))
    before = same.terms
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(3.0)
    found.model()(task.X)
    for name, term in before.items():
        close(found.terms[name], term, 1e-12)
    assert float(before["interpolant"].abs().max()) > 0


def test_it_is_saved_and_pickled_whole(tmp_path):
    model, task = problem()
    with untimed():
        found = wm.predict(model, task, SGD, steps=SHORT)
        other = wm.predict(model, task, SGD, steps=SHORT)
    found.save(tmp_path / "saved")
    loaded, pickled = type(found).load(tmp_path / "saved"), pickle.loads(pickle.dumps(other))
    for name, term in found.terms.items():
        close(loaded.terms[name], term, 0.0)
        close(pickled.terms[name], term, 1e-12)
    assert loaded.max_lr == found.max_lr == pickled.max_lr


def test_a_rate_that_diverges_is_named_as_ever(starts):
    model, task = problem()
    with untimed(), pytest.raises(wm.errors.DivergenceError, match="limit of stability for this network"):
        wm.predict(model, task, partial(torch.optim.SGD, lr=50.0), steps=SHORT)
    assert len(starts) == 1


@pytest.mark.parametrize("seconds", [0.15, LONG])
def test_a_rate_beyond_the_limit_is_noted_where_training_comes_first(seconds, starts, monkeypatch):
    """Where looking at the limit takes little of training's time."""
    model, task = problem()
    lr = 1.2 * wm.predict(model, task, SGD, steps=SHORT).max_lr
    starts.clear()
    monkeypatch.setattr(Origin, "least_seconds", seconds)
    with untimed():
        found = wm.predict(model, task, partial(torch.optim.SGD, lr=lr), steps=200)
    run = wm.train(model, task, partial(torch.optim.SGD, lr=lr), steps=200, until=None, progress=False)
    assert 2 * run.losses[3] < run.losses[6] < run.losses[0]
    close(found.test, run.test, 1e-12)
    assert any("beyond the limit of stability" in note for note in found.notes) == (seconds < LONG)
    assert len(starts) == (seconds < LONG)


def test_models_that_are_no_functions_of_rows_are_refused_before_they_are_trained():
    model, task = problem()
    mixing = nn.Sequential(model, nn.Module()).double()
    mixing[1].forward = lambda f: f - f.mean(0)  # type: ignore[method-assign]
    with pytest.raises(wm.errors.ModelError, match="depends on the other rows"):
        wm.predict(mixing, task, partial(torch.optim.NAdam, lr=1e-3), steps=5)
