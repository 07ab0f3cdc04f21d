"""A new optimizer is one file and one entry of the registry: with these it works everywhere."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.comparisons import SGD, network, problem
from oracles.linear_rules import distance, mlp_problem
from oracles.toy_optimizer import FACTS, LazyMomentum, LazyMomentumRule
from whichmin.dynamics.rules.registry import rule_of
from whichmin.optimizers.registry import REGISTRY

FACTORY = partial(LazyMomentum, lr=0.05)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(REGISTRY, FACTS.name, FACTS)


def test_without_an_entry_it_goes_step_by_step():
    model, task = mlp_problem((4, 30), 6)
    assert rule_of(FACTORY(list(model.parameters()))) is None
    stepwise = wm.predict(model, task, FACTORY, steps=20, relinearize="never")
    assert stepwise.rates is None


def test_its_rule_predicts_what_stepping_it_gives(registered, monkeypatch):
    model, task = mlp_problem((4, 30), 6)
    assert isinstance(rule_of(FACTORY(list(model.parameters()))), LazyMomentumRule)
    courses = [{}, {"batch_size": 2, "seed": 1}, {"scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=5)}]
    known = [wm.predict(model, task, FACTORY, steps=40, relinearize="never", **course) for course in courses]
    monkeypatch.delitem(REGISTRY, FACTS.name)
    for course, prediction in zip(courses, known, strict=True):
        stepwise = wm.predict(model, task, FACTORY, steps=40, relinearize="never", **course)
        assert distance(prediction.test, stepwise.test) < 1e-10


def test_predict_train_and_explain(registered):
    model, task = mlp_problem((4, 400), 6)
    best = partial(LazyMomentum, lr="best")
    run = wm.train(model, task, best, until=1e-3)
    predicted = wm.predict(model, task, best, until=1e-3, tol=1e-2)
    assert run.converged
    assert predicted.steps == pytest.approx(run.steps, abs=2)
    assert distance(predicted.test, run.test) < 3e-2
    assert predicted.rates.kind == "linear"
    explained = wm.explain(run)
    assert distance(explained.total, run.test) < 1e-12
    assert "geometry" not in explained.terms


def test_compare(registered):
    found = wm.compare(network, problem(), {"gd": SGD, "lazy": partial(LazyMomentum, lr="best")}, seeds=2, until=1e-2)
    assert not found.failures
    assert set(found.names) == {"gd", "lazy"}


@pytest.mark.usefixtures("undrawn")
def test_the_command_line_and_the_report(registered, tmp_path, monkeypatch, capsys):
    from whichmin.cli.main import main

    monkeypatch.chdir(tmp_path)
    small = ["--hidden", "64", "--n-train", "20", "--n-test", "10", "--until", "1e-2", "--dtype", "float64"]
    assert main(["explain", *small, "--seeds", "1", "--optimizer", "lazy-momentum:kappa=0.3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["config"]["optimizer"] == [{"name": "lazy-momentum", "lr": "best", "kappa": 0.3}]
    assert said["seeds"][0]["steps_trained"] > 0
    page = (tmp_path / "whichmin-out" / "explain.html").read_text()
    assert "lazy-momentum" in page or "LazyMomentum" in page
