"""What every remedy fulfils: predicted is what training brings, the network that is left computes the outputs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.remedies import N_TEST, N_VALIDATION, data, found, network, sgd, task, validation, work
from whichmin.errors import InputError, MemoryPlanError, ModelError
from whichmin.mitigation import Antisymmetric, Ensemble, Jump, Method, Outcome, ScaleSearch, ZeroLastLayer
from whichmin.mitigation.ensemble import shuffled
from whichmin.mitigation.registry import METHODS, chosen_methods

#: Times the estimated error that a trained network may be away from its prediction.
HONEST = 4.0


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).square().mean().sqrt())


@pytest.mark.parametrize("name", METHODS)
def test_it_declares_what_it_is(name):
    method = METHODS[name]()
    assert isinstance(method, Method)
    assert method.name == name
    assert method.acts_on in ("network", "task", "outputs")
    assert method.foreseen in ("closed form", "path", "training")
    assert method.summary.endswith(".")
    assert method.copies >= 1
    assert method.passes >= 1
    assert hash(method) == hash(METHODS[name]())


@pytest.mark.parametrize("name", METHODS)
def test_training_ends_where_it_is_predicted(name):
    remedy = found()[name]
    predicted, trained = remedy.predicted, remedy.trained
    for part in (predicted, trained):
        assert part.validation.shape == (N_VALIDATION, 1)
        assert part.test.shape == (N_TEST, 1)
        assert part.reached
    off = max(apart(predicted.validation, trained.validation), apart(predicted.test, trained.test))
    assert off < HONEST * predicted.error + 1e-6
    assert predicted.error < 0.03
    assert trained.error == 0
    assert trained.train_loss < 1e-5


@pytest.mark.parametrize("name", METHODS)
def test_the_network_computes_the_outputs(name):
    """The predicted network up to the linearization, the trained one exactly."""
    problem = work()
    method = METHODS[name]() if name != "scale_search" else ScaleSearch(scales=(0.5,))
    predicted = method.predict(problem)
    trained = method.train(problem, predicted)
    for part, within in ((predicted.predicted, 0.05), (trained.trained, 1e-9)):
        train, (of_validation, of_test) = problem.evaluate(part.network)
        assert apart(of_validation, part.validation) < within
        assert apart(of_test, part.test) < within
        assert problem.task.loss.value(train, problem.task.y) < (1e-2 if within > 0.01 else 1e-5)


@pytest.mark.parametrize("name", ["antisymmetric", "centered"])
def test_without_initialization_the_interpolator_is_reached(name):
    """The distance falls from that of the network as it is to what is left of the network's nonlinearity."""
    mitigation = found()
    loud = mitigation.distance(mitigation["as_it_is"].trained)
    assert mitigation.distance(mitigation[name].trained) < 0.05 * loud


def test_subtracting_leaves_the_linearization_error():
    mitigation = found()
    loud = mitigation.distance(mitigation["as_it_is"].trained)
    assert mitigation.distance(mitigation["subtract"].trained) < 0.15 * loud


def test_an_ensemble_shrinks_the_initialization_by_the_root_of_its_members():
    mitigation = found()
    loud = mitigation.distance(mitigation["as_it_is"].trained)
    assert mitigation.distance(mitigation["ensemble"].trained) == pytest.approx(loud / math.sqrt(5), rel=0.4)


def test_a_jump_ends_at_the_same_minimizer_in_a_few_steps():
    mitigation = found()
    scratch, jump = mitigation["as_it_is"].trained, mitigation["jump"].trained
    assert jump.steps < 0.05 * scratch.steps
    assert apart(jump.test, scratch.test) < HONEST * mitigation["as_it_is"].predicted.error


@pytest.mark.parametrize("until", [None, 1e-9])
def test_a_jump_trains_no_more_steps_than_there_are(until):
    """The prediction is of the end of training already, whose number of steps is given."""
    problem = work(until=until, steps=20)
    as_it_is, jumped = problem.trained, Jump().train(problem, Jump().predict(problem)).trained
    assert jumped.steps == 0
    assert jumped.reached == as_it_is.reached == (until is None)
    assert apart(jumped.test, as_it_is.test) < HONEST * problem.predicted.error + 1e-9


def test_costs_are_those_of_its_network():
    mitigation, count = found(), sum(p.numel() for p in network().parameters())
    extra = {remedy.name: remedy.parameters / count for remedy in mitigation.remedies}
    assert extra == {
        "as_it_is": 0, "scale_search": 0, "antisymmetric": 1, "centered": 1, "subtract": 2, "zero_last_layer": 0,
        "ensemble": 4, "jump": 0,
    }  # fmt: skip
    problem = work()
    for name in METHODS:
        part = METHODS[name]().predict(problem).predicted
        if name != "scale_search":
            held = sum(p.numel() for p in part.network.parameters())
            assert held == count * (1 + extra[name])


def test_entries_change_places_within_each_parameter():
    model = network()
    one, again, other = shuffled(model, 1), shuffled(model, 1), shuffled(model, 2)
    for p, q, r, s in zip(*(m.parameters() for m in (model, one, again, other)), strict=True):
        assert torch.equal(q, r)
        assert not torch.equal(q, s)
        assert not torch.equal(p, q)
        assert torch.equal(p.flatten().sort().values, q.flatten().sort().values)


def test_members_are_drawn_as_the_caller_says():
    drawn = []

    def draw(i: int) -> nn.Module:
        drawn.append(i)
        return network(seed=i)

    Ensemble(3, draw).predict(work())
    assert drawn == [1, 2]
    for members in (1, 0, 2.0, True):
        with pytest.raises(InputError, match="expected a whole number of networks, 2 or more"):
            Ensemble(members)


class Residual(nn.Module):
    """Outputs that do not come from the last layer alone."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(5, 1), nn.Linear(1, 1)

    def forward(self, x):
        h = self.one(x)
        return h + self.two(h)


class Functional(nn.Module):
    """No layer that is called."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = nn.ParameterList([nn.Parameter(torch.randn(1, 5))])

    def forward(self, x):
        return x @ self.lines[0].T


def test_a_last_layer_of_zeros():
    start = ZeroLastLayer().network(work())
    assert torch.equal(start(task().X), torch.zeros(task().n, 1, dtype=torch.float64))
    assert torch.equal(start.layers[0].weight, network().layers[0].weight)


class Positions(nn.Module):
    """Parameters of the network itself, as a transformer's positions, besides its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.ones(5))
        self.out = nn.Linear(5, 1)

    def forward(self, x):
        return self.out(x + self.positions)


def test_a_last_layer_within_a_network_with_parameters_of_its_own():
    problem = work()
    problem.model = Positions().double()
    start = ZeroLastLayer().network(problem)
    assert not start.out.weight.any()
    assert bool((start.positions == 1).all())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Residual(), r"the last layer that runs is 'two', and with zeros in it outputs are up to"),
        (Functional(), "no layer"),
    ],
    ids=["residual", "functional"],
)
def test_a_network_whose_last_layer_is_not_its_output(model, message):
    problem = work()
    problem.model = model.double()
    with pytest.raises(ModelError, match=message):
        ZeroLastLayer().network(problem)


def test_two_copies_that_do_not_fit(monkeypatch):
    monkeypatch.setattr("whichmin.tangent.memory.available_bytes", lambda device: 1000)
    with pytest.raises(MemoryPlanError, match=r"two antisymmetric copies of the network needs .* Take centered"):
        Antisymmetric().network(work())


def test_names_and_methods_are_chosen():
    assert [m.name for m in chosen_methods("all")] == list(METHODS)
    assert [m.name for m in chosen_methods("centered")] == ["as_it_is", "centered"]
    mine = ScaleSearch(shrink=0.5)
    assert chosen_methods(["jump", mine, "as_it_is"])[1:] == (Jump(), mine)
    with pytest.raises(InputError, match=r"methods has 'centred'; expected .* Did you mean 'centered'\?"):
        chosen_methods(["centred"])
    with pytest.raises(InputError, match="'jump' twice"):
        chosen_methods(["jump", Jump()])


def test_inputs_by_name_and_an_output_that_is_picked():
    """Networks composed of others are predicted and trained on the same inputs, and return the output themselves."""

    class Answers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(width=64)

        def forward(self, points):
            return {"hidden": points, "wanted": self.model(points)}

    X, y = data(10, 1)
    model = Answers()
    whole = wm.Task({"points": X}, y, {"points": task().X_test}, task().y_test, output="wanted")
    points, targets = validation()
    result = wm.mitigate(
        model, whole, sgd(model, of=whole), validation=({"points": points}, targets), train="all", until=1e-3,
        methods=["antisymmetric", "centered", "subtract", Ensemble(2)],
    )  # fmt: skip
    assert [remedy.failure for remedy in result.remedies] == [""] * 5
    assert all(isinstance(remedy.trained, Outcome) for remedy in result.remedies)
    left = result.model()(points=task().X_test)
    assert apart(left.detach(), result[result.best].trained.test) < 1e-9
