"""``mitigate``: which remedy is recommended, what is trained, what bad input and interruptions leave."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.remedies import N, data, found, network, sgd, task, validation
from whichmin.errors import DataError, DivergenceError, InputError, ResultError
from whichmin.mitigation import Centered, ScaleSearch
from whichmin.mitigation.work import Work

QUICK = ("centered", "subtract")


def mitigated(scale: float = 2.0, **settings) -> wm.Mitigation:
    model = network(scale)
    asked = {"validation": validation(), "methods": QUICK, "train": "none", "until": 1e-3} | settings
    return wm.mitigate(model, task(), sgd(model), **asked)


def test_the_best_is_the_lowest_significant_one():
    result = found()
    losses = {r.name: result.validation.test_loss(r.predicted.validation) for r in result.remedies}
    assert result.best == min(losses, key=losses.get) == result.lowest
    gain = result.gain(result.best)
    assert gain.gain == pytest.approx(losses["as_it_is"] - losses[result.best])
    assert gain.significant
    assert gain.gain > 10 * gain.error
    assert gain.p < 0.001


def test_a_network_that_starts_at_zero_is_left_as_it_is():
    model = network()
    with torch.no_grad():
        model.layers[-1].weight.zero_()
    asked = {"validation": validation(), "methods": QUICK, "train": "best", "until": 1e-3}
    result = wm.mitigate(model, task(), sgd(network(), 0.2), **asked)
    assert result.best == "as_it_is"
    gain = result.gain("centered")
    assert not gain.significant
    assert result["as_it_is"].trained is not None
    assert result["centered"].trained is None
    torch.testing.assert_close(result.model()(task().X_test).detach(), result["as_it_is"].trained.test)


def test_a_gain_below_the_predictions_error_is_none(monkeypatch):
    """The same gain, where the predictions may be far off."""
    assert mitigated().best == "subtract"
    sure = Work.outcome
    monkeypatch.setattr(Work, "outcome", lambda self, p: dataclasses.replace(sure(self, p), error=3.0))
    result = mitigated()
    assert result.best == "as_it_is"
    assert result.gain("centered").p < 0.05
    assert result.gain("centered").gain < result.gain("centered").error
    monkeypatch.setattr(Work, "outcome", lambda self, p: dataclasses.replace(sure(self, p), error=math.inf))
    assert mitigated().best == "as_it_is"


def test_a_level_that_nothing_reaches():
    assert mitigated(level=1e-12).best == "as_it_is"


def test_what_is_trained():
    none, best, named = (mitigated(train=train) for train in ("none", "best", ["centered"]))
    for result, trained in ((none, ()), (best, ("subtract",)), (named, ("centered",))):
        assert tuple(r.name for r in result.remedies if r.trained is not None) == trained
    assert all(r.trained is not None for r in found().remedies)
    torch.testing.assert_close(best.model()(task().X_test).detach(), best["subtract"].trained.test)
    left = named.model()(task().X_test).detach()
    assert float((left - named["subtract"].predicted.test).square().mean()) < 1e-3


def test_it_changes_nothing_of_the_callers():
    model = network()
    before = [p.clone() for p in model.parameters()]
    state = torch.random.get_rng_state()
    wm.mitigate(model, task(), sgd(model), validation=validation(), until=1e-2, train="best")
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_a_share_of_the_training_rows_is_not_trained_on():
    X, y = data(30, 7)
    model = network()
    result = wm.mitigate(model, wm.Task(X, y), sgd(model), validation=0.4, methods=["centered"], until=1e-2, seed=3)
    assert result.held_out.shape == (12,)
    assert result.task.n == 18
    assert result[result.best].trained.test is None
    assert torch.equal(result.validation.X_test, X[result.held_out])
    assert math.isnan(result.to_frame()["test_predicted"][1])


def test_cross_entropy_has_losses_and_accuracies():
    whole = task(classes=True)
    model = network(outputs=2)
    result = wm.mitigate(
        model, whole, sgd(model, of=whole), validation=validation(classes=True), until=0.1, train="all",
        methods=[ScaleSearch(scales=(0.5, 0.3)), "centered", "subtract", "zero_last_layer"],
    )  # fmt: skip
    assert not any(r.failure for r in result.remedies)
    frame = result.to_frame().set_index("method").drop("interpolator")
    for of in ("validation", "test"):
        predicted, trained = (frame[f"{of}_{kind}"] for kind in ("predicted", "trained"))
        assert (predicted > 0).all()
        assert ((predicted - trained).abs() < 0.05 * trained).all()
        right, right_trained = (frame[f"{of}_accuracy_{kind}"] for kind in ("predicted", "trained"))
        assert ((right - right_trained).abs() <= 1 / 12).all()
        assert (right > 0.5).all()


def test_batches_and_adam():
    model = network()
    recipe = wm.Recipe(partial(torch.optim.Adam, lr=1e-3), batch_size=5)
    result = wm.mitigate(
        model, task(), recipe, validation=validation(), until=1e-3, methods=[ScaleSearch(scales=(0.6,)), "centered"],
        train="all",
    )  # fmt: skip
    assert [r.failure for r in result.remedies] == [""] * 3
    losses = result.to_frame().set_index("method")["validation_trained"]
    assert losses["centered"] < 0.5 * losses["as_it_is"]


def test_a_method_that_fails_says_so_in_its_row(monkeypatch):
    def fail(self, work):
        raise DivergenceError("it diverges.", 1.0)

    monkeypatch.setattr(Centered, "network", fail)
    result = mitigated(train="best")
    assert result["centered"].failure == "it diverges."
    assert result["centered"].predicted is None
    assert result.best == "subtract"
    with pytest.raises(ResultError, match=r"centered was not predicted: it diverges\."):
        result.gain("centered")
    assert result.to_frame().set_index("method").loc["centered", "failure"] == "it diverges."


def test_differences_of_log_probabilities_are_none():
    draw = torch.Generator().manual_seed(0)
    X, labels = torch.randn(30, 4, generator=draw), torch.randint(0, 3, (30,), generator=draw)
    model = nn.Sequential(wm.networks.MLP((4, 32, 3), seed=0), nn.LogSoftmax(1))
    data = wm.Task(X, labels, loss=nn.NLLLoss())
    methods = ["centered", "antisymmetric", "subtract", "ensemble"]
    optimizer = partial(torch.optim.SGD, lr=0.1)
    result = wm.mitigate(model, data, optimizer, steps=20, validation=0.3, methods=methods, train="none")
    for name in methods[:3]:
        assert result[name].predicted is None
        assert "are differences of them, which are none: leave log_softmax out" in result[name].failure
    assert result["ensemble"].failure == ""
    assert result.best in ("as_it_is", "ensemble")


def test_where_the_network_as_it_is_cannot_be_trained_there_is_no_result():
    model = network()
    with pytest.raises(DivergenceError, match="diverges"):
        wm.mitigate(model, task(), sgd(model, 50.0), validation=validation(), until=1e-3)


def test_a_budget_keeps_what_there_is(monkeypatch):
    """The clock jumps once the network as it is was predicted."""
    spent = iter([])

    def left(self):
        return next(spent, -1.0)

    model = network()
    spent = iter([100.0] * 3)
    monkeypatch.setattr(Work, "left", property(left))
    result = wm.mitigate(
        model, task(), sgd(model), validation=validation(), methods=["centered", "subtract"], until=1e-3, budget=100.0
    )
    assert result["as_it_is"].predicted is not None
    assert result["centered"].failure == "the budget ran out before it was predicted."
    assert result["subtract"].predicted is not None, "it needs nothing but the network as it is"
    assert result["subtract"].failure == "the budget ran out before it was trained."
    assert result.best == "subtract"


def test_a_training_that_the_budget_ends_is_kept():
    model = network()
    slow = partial(sgd(model).func, lr=1e-9)
    started = time.perf_counter()
    result = wm.mitigate(
        model, task(), slow, validation=validation(), methods=["as_it_is"], until=None, steps=10**8, budget=4.0
    )
    assert time.perf_counter() - started < 60
    trained = result["as_it_is"].trained
    if trained is None:
        assert "the budget ran out" in result["as_it_is"].failure
        return
    assert 0 < trained.steps < 10**8
    assert "the budget" in " ".join(trained.notes)


def test_ctrl_c_keeps_what_is_finished(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Centered, "predict", interrupt)
    result = mitigated(methods=["subtract", "centered", "jump"], train="best")
    assert result.interrupted
    assert [r.name for r in result.remedies] == ["as_it_is", "subtract"]
    assert result.best == "subtract"
    assert result["subtract"].trained is None
    assert "interrupted" in result.notes[-1]
    monkeypatch.setattr("whichmin.mitigation.work.predict", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mitigated()


def test_ctrl_c_in_training_keeps_the_predictions(monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("whichmin.mitigation.work.Work.train", interrupt)
    result = mitigated(train="best")
    assert result.interrupted
    assert [r.predicted is not None for r in result.remedies] == [True] * 3
    assert [r.trained for r in result.remedies] == [None] * 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"methods": ["centred"]}, InputError, "Did you mean 'centered'"),
        ({"train": "some"}, InputError, "train is 'some'; expected 'best', 'all', 'none', or some of the methods"),
        ({"train": ["jump"]}, InputError, "or some of the methods that are tried: as_it_is, centered, subtract"),
        ({"train": []}, InputError, r"train is \[\]"),
        ({"level": 0}, InputError, "level is 0; expected a number between 0 and 1"),
        ({"level": True}, InputError, "level is True"),
        ({"until": None}, InputError, "until and steps are both None"),
        ({"budget": 0}, InputError, "budget is 0; expected a positive number of seconds"),
        ({"validation": 1.5}, InputError, "expected a share between 0 and 1"),
        ({"validation": (task().X, task().y)}, DataError, f"{N} of {N} validation rows are training rows"),
        ({"batch_size": 0}, InputError, "batch_size"),
        ({"until": -1.0}, InputError, "until is -1"),
    ],
    ids=lambda value: str(next(iter(value))) if isinstance(value, dict) else None,
)
def test_bad_input_is_refused_before_anything_is_done(monkeypatch, settings, error, message):
    monkeypatch.setattr("whichmin.mitigation.work.predict", lambda *a, **k: pytest.fail("it has begun"))
    with pytest.raises(error, match=message):
        mitigated(**settings)


def test_methods_with_settings_of_their_own():
    result = mitigated(methods=[ScaleSearch(scales=(0.3,)), Centered()])
    assert result["scale_search"].search.scales == (1.0, 0.3)


def test_a_loaded_result_makes_its_network_again(tmp_path):
    for name in ("centered", "subtract", "antisymmetric", "ensemble", "zero_last_layer", "scale_search"):
        result = mitigated(methods=[ScaleSearch(scales=(0.3,)) if name == "scale_search" else name], train="none")
        assert result.best == name
        result.save(tmp_path / name)
        loaded = wm.Mitigation.load(tmp_path / name)
        with pytest.raises(ResultError, match=r"pass the network that was given, result\.model\(untrained\)"):
            loaded.model()
        again = loaded.model(network())
        assert torch.equal(again(task().X_test), result.model()(task().X_test)), name


def dead():
    """A network of which most rows reach no neuron."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)).double()
    with torch.no_grad():
        network[0].bias.fill_(-1.5)
    return network


@pytest.mark.parametrize("steps", [None, 2500])
def test_training_that_stalls_ends_and_says_so_unless_its_steps_are_given(steps):
    generator = torch.Generator().manual_seed(0)
    X, X_chosen = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (16, 8))
    found = wm.mitigate(
        dead(), wm.Task(X, torch.sign(X[:, 0])), partial(torch.optim.SGD, lr=0.1),
        validation=(X_chosen, torch.sign(X_chosen[:, 0])), methods=["as_it_is", "scale_search"], steps=steps,
    )  # fmt: skip
    as_it_is, search = found.remedies
    for outcome in (as_it_is.predicted, as_it_is.trained):
        assert outcome.way == "trained"
        assert not outcome.reached
        assert (1000 < outcome.steps < 2400) if steps is None else (outcome.steps == steps)
    said = "stalls at a training MSE of" if steps is None else "ends at a training MSE of"
    assert any(said in note for note in found.notes)
    assert any(note.startswith("as it is, trained: training stopped short of its aim") for note in found.notes)
    reason = "training ends short of its aim, at" if steps is None else "training does not get there within 2,500 steps"
    assert reason in search.search.reason
