"""The search goes to smaller scales while the validation loss falls, and says why it stops."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.remedies import N_VALIDATION, found, network, sgd, task, validation, work
from whichmin.errors import DivergenceError, InputError
from whichmin.mitigation import Outcome, ScaleSearch
from whichmin.mitigation.scale_search import MARGIN, ScaledRate
from whichmin.mitigation.work import OutOfBudgetError

Y = validation()[1][:, None]


def outcome(loss: float, *, reached: bool = True, noise: float = 0.0) -> Outcome:
    """Outputs of a validation loss, with a part of it that differs from point to point."""
    g = torch.Generator().manual_seed(round(1e6 * loss))
    deviation = 1 + noise * torch.randn(N_VALIDATION, 1, generator=g, dtype=torch.float64)
    off = deviation / deviation.square().mean().sqrt() * math.sqrt(loss)
    return Outcome(Y + off, None, 0.0, 0.0, 10.0, 0.0, "relinearized", reached)


def search(losses, method=ScaleSearch(), at_least=1, problem=None, **settings):  # noqa: B008
    """The search where the losses at the scales are these."""
    outcomes = iter(outcome(loss, **settings) if isinstance(loss, float) else loss for loss in losses)

    def at(scale: float) -> Outcome:
        made = next(outcomes)
        if isinstance(made, Exception):
            raise made
        return made

    return method._search(work() if problem is None else problem, at, at_least)


def test_it_goes_on_while_the_loss_falls():
    result = search([1.0, 0.6, 0.4, 0.41, 0.1])
    assert result.scales == pytest.approx((1.0, 0.8, 0.64, 0.512))
    assert result.losses == pytest.approx((1.0, 0.6, 0.4, 0.41))
    assert (result.considered, result.chosen) == (4, 2)
    assert result.scale == pytest.approx(0.64)
    assert "rises from 0.4 to 0.41 at scale 0.512" in result.reason
    assert math.isnan(result.p[0])


def test_a_fall_that_is_not_significant_stops_it():
    result = search([1.0, 0.6, 0.5, 0.1], noise=5.0)
    stopped = len(result.scales) - 1
    assert result.p[stopped] > 0.05
    assert f"(p = {result.p[stopped]:.2g})" in result.reason
    assert result.chosen == stopped - 1, "scales that cannot be told apart are no reason to go on"


def test_a_fall_without_a_margin_stops_it():
    result = search([1.0, 1.0 - 0.5 * MARGIN, 0.1])
    assert result.considered == 2
    assert "falls by less than 1%" in result.reason


def test_a_search_that_cannot_improve_keeps_the_network_as_it_is():
    result = search([1.0, 1.5, 0.1])
    assert (result.scale, result.considered) == (1.0, 2)


def test_scales_of_ones_own():
    result = search([1.0, 0.6, 0.4], ScaleSearch(scales=(0.7, 0.3)))
    assert result.scales == (1.0, 0.7, 0.3)
    assert result.reason.startswith("all scales were looked at")


def test_what_is_too_slow_or_fails_ends_it():
    stalled = outcome(0.4, reached=False)
    assert "ends short of its aim, at a training loss of 0 after 10 steps" in search([1.0, 0.6, stalled, 0.1]).reason
    slow = search([1.0, 0.6, replace(stalled, steps=1e5), 0.1])
    assert (len(slow.scales), slow.scale) == (2, pytest.approx(0.8))
    assert "does not get there within 100,000 steps" in slow.reason
    failed = search([1.0, 0.6, DivergenceError("it diverges.", 1.0)])
    assert failed.reason == "scale 0.64: it diverges."
    with pytest.raises(DivergenceError):
        search([DivergenceError("it diverges.", 1.0)])


def test_a_budget_of_seconds_ends_it(monkeypatch):
    from whichmin.mitigation.work import Work

    problem = work()
    limited = Work(problem.model, problem.split, problem.recipe, problem.aim, budget=1000.0)
    monkeypatch.setattr(Work, "seconds_per_step", 60.0)
    assert "would take about 600 s" not in search([1.0, 0.6, 0.4, 0.5], problem=limited).reason
    monkeypatch.setattr(Work, "seconds_per_step", 200.0)
    result = search([1.0, 0.6, 0.4], problem=limited)
    assert result.considered == 1
    assert "training would take about 2e+03 s, and 1e+03 s of the budget are left" in result.reason


def test_scales_after_the_stop_are_for_the_record():
    result = search([1.0, 0.6, 0.7, 0.1, 0.2], at_least=4)
    assert (len(result.scales), result.considered, result.chosen) == (4, 3, 1)


def refined(losses, error, better, shrinks=0.0):
    """The search where predicted losses are off, and which finer predictions it asks for, with which error then."""
    outcomes = iter(replace(outcome(loss), error=error) for loss in losses)
    asked: list[tuple[float, float]] = []

    def finer(scale: float, coarse: Outcome, part: float) -> Outcome:
        asked.append((scale, part))
        return replace(outcome(better[scale]), error=0.0 if shrinks == 0 else shrinks * coarse.error)

    return ScaleSearch(scales=(0.7, 0.3))._search(work(), lambda scale: next(outcomes), 1, finer=finer), asked


def test_where_it_hangs_on_errors_predictions_are_finer():
    clear, asked = refined([1.0, 0.6, 0.3], 0.01, {})
    assert asked == []
    assert clear.scale == 0.3
    result, asked = refined([1.0, 0.98, 0.3], 0.1, {1.0: 0.9, 0.7: 0.95})
    assert asked == [(1.0, 0.1), (0.7, 0.1)]
    assert "rises from 0.9 to 0.95 at scale 0.7" in result.reason
    assert result.losses == pytest.approx((0.9, 0.95))
    result, asked = refined([1.0, 1.02, 0.3], 0.1, {1.0: 1.1, 0.7: 0.95})
    assert asked == [(1.0, 0.1), (0.7, 0.1)]
    assert result.scale == 0.3
    unknown, asked = refined([1.0, 0.6, 0.3], math.inf, {1.0: 1.0, 0.7: 0.6, 0.3: 0.3})
    assert [scale for scale, _ in asked] == [1.0, 0.7, 0.7, 0.3]
    assert unknown.scale == 0.3


def test_where_it_still_hangs_on_them_they_are_finer_again():
    result, asked = refined([1.0, 0.98, 0.3], 0.1, {1.0: 1.0, 0.7: 0.98}, shrinks=0.5)
    assert asked == [(1.0, 0.1), (0.7, 0.1), (1.0, 0.01), (0.7, 0.01)]
    assert result.outcomes[0].error == pytest.approx(0.025)


def test_finer_predictions_that_there_is_no_budget_for_are_left():
    outcomes = iter(replace(outcome(loss), error=0.1) for loss in (1.0, 0.98, 0.3))

    def finer(scale: float, coarse: Outcome, part: float) -> Outcome:
        raise OutOfBudgetError("the budget ran out before it was predicted.")

    result = ScaleSearch(scales=(0.7, 0.3))._search(work(), lambda scale: next(outcomes), 1, finer=finer)
    assert result.losses[:2] == pytest.approx((1.0, 0.98))


def test_a_scale_is_predicted_once_with_a_tolerance(monkeypatch):
    from whichmin.mitigation.work import Work

    tolerances: list[float] = []
    predict = Work.predict

    def counted(self, *args, tol=None, **kwargs):
        tolerances.append(self.aim.tol if tol is None else tol)
        return predict(self, *args, tol=tol, **kwargs)

    monkeypatch.setattr(Work, "predict", counted)
    monkeypatch.setattr(ScaleSearch, "_is_open", lambda *args: True)
    problem = work()
    ScaleSearch(scales=(0.7, 0.5)).predict(problem)
    finer = [round(t / problem.aim.tol, 6) for t in tolerances if t < problem.aim.tol]
    assert finer
    assert all(finer.count(part) <= 3 for part in (0.1, 0.01))
    assert set(finer) <= {0.1, 0.01}


def test_what_was_predicted_by_training_is_the_training(monkeypatch):
    """It is not trained again, and counts as long as the training in it took."""
    predicted = replace(outcome(0.5), way="trained", seconds=9.0, training_seconds=2.0, error=0.1)
    monkeypatch.setattr("whichmin.mitigation.work.train", None)
    trained = work().train(network(), predicted=predicted)
    assert (trained.seconds, trained.error) == (2.0, 0.0)
    assert torch.equal(trained.validation, predicted.validation)


@pytest.mark.parametrize("settings", [{"shrink": 0}, {"shrink": 1.0}, {"shrink": -0.5}, {"shrink": "much"}])
def test_shrink_is_between_0_and_1(settings):
    with pytest.raises(InputError, match="expected a number between 0 and 1"):
        ScaleSearch(**settings)


@pytest.mark.parametrize("scales", [(0.0,), (0.5, -0.1), (0.5, 0)])
def test_scales_are_above_zero(scales):
    with pytest.raises(InputError, match="expected a positive number"):
        ScaleSearch(scales=scales)


@pytest.mark.parametrize("scales", [(), (0.5, 0.7), (1.0,), (0.5, 0.5)])
def test_scales_descend_from_one(scales):
    with pytest.raises(InputError, match="expected numbers below 1 that descend"):
        ScaleSearch(scales=scales)


def test_the_predicted_search_picks_what_training_picks():
    remedy = found()["scale_search"]
    assert remedy.search.scale == remedy.trained_search.scale
    assert remedy.search.scale < 0.5
    for predicted, trained in zip(remedy.search.losses, remedy.trained_search.losses, strict=True):
        assert predicted == pytest.approx(trained, rel=0.05)


def test_the_initialization_falls_as_the_scale_to_the_number_of_layers():
    """The distance to the interpolator is α^L times that at scale 1: L = 2."""
    mitigation = found()
    search = mitigation["scale_search"].search
    distances = [mitigation.distance(outcome) for outcome in search.outcomes]
    for scale, distance in list(zip(search.scales, distances, strict=True))[:5]:
        assert distance == pytest.approx(scale**2 * distances[0], rel=0.15)


def test_the_learning_rate_follows_the_scale():
    """At α the kernel is α⁴ times as large, so the rate of gradient descent is α⁻⁴, and that of a sign rule α⁻²."""
    for optimizer, power in ((sgd(network()), -4), (partial(torch.optim.Adam, lr=1e-3), -2)):
        problem = work()
        problem.recipe = wm.Recipe(optimizer)
        made, recipe = ScaleSearch()._at(problem, 0.5)
        built = recipe.build(made.parameters())
        assert built.param_groups[0]["lr"] == pytest.approx(0.5**power * optimizer.keywords["lr"], rel=1e-6)
        assert ScaleSearch(follow_rate=False)._at(problem, 0.5)[1] is problem.recipe


def test_the_best_rate_is_settled_at_each_scale():
    problem = work()
    problem.recipe = wm.Recipe(partial(torch.optim.SGD, lr="best"))
    assert ScaleSearch()._at(problem, 0.5)[1] is problem.recipe


def test_all_groups_of_an_optimizer_have_their_rates_scaled():
    def factory(parameters):
        first, *rest = list(parameters)
        return torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": rest}], lr=0.4)

    built = ScaledRate(factory, 0.5)(network().parameters())
    assert [group["lr"] for group in built.param_groups] == [0.05, 0.2]


def test_the_chosen_network_is_an_ordinary_one():
    problem, method = work(), ScaleSearch(scales=(0.5,))
    remedy = method.train(problem, method.predict(problem))
    model = network()
    model.load_state_dict(remedy.trained.network.state_dict())
    torch.testing.assert_close(model(task().X_test), remedy.trained.test, rtol=1e-10, atol=1e-10)
