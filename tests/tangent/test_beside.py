"""What cannot be seen where a network stands: parameters behind a gate that is zero, or next to it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance
from oracles.odd_networks import KINDS, Gated
from whichmin.tangent.beside import examine_beside, route_beside
from whichmin.tangent.examine import examine

#: Kinds that write into their inputs or take vectors for matrices cannot stand beside a layer.
TOGETHER = sorted(set(KINDS) - {"writes into its input", "a vector as a weight"})
STEPS = 4


@pytest.mark.parametrize("gate", [0.0, 1e-6, 0.3])
@pytest.mark.parametrize("name", TOGETHER)
def test_a_path_of_single_steps_is_training(name, gate):
    kind = KINDS[name]
    X = kind.rows(7)
    model = Gated(kind.model(), X, gate)
    torch.manual_seed(5)
    task = wm.Task(X, torch.randn(7, model.gate.numel()).double(), kind.rows(5, 1))
    rate = 0.2 * wm.spectrum(wm.tangent_kernel(model, X)).best_lr
    sgd = partial(torch.optim.SGD, lr=rate)
    run = wm.train(model, task, sgd, steps=STEPS, until=None)
    found = wm.predict(model, task, sgd, steps=STEPS, relinearize=STEPS)
    assert found.test is not None
    assert run.test is not None
    assert distance(found.test, run.test) < (1e-6 if "single" in name else 1e-9)


def gated(name: str, gate: float) -> tuple[nn.Module, torch.Tensor]:
    X = KINDS[name].rows(7)
    return Gated(KINDS[name].model(), X, gate), X


@pytest.mark.parametrize(("gate", "where"), [(0.0, "unseen"), (1e-6, "faint")])
def test_what_is_wrong_there_is_formed(gate, where):
    model, X = gated("its own derivative", gate)
    examination = examine(model, X)
    assert {"inner.a.weight", "inner.o.weight"} <= getattr(examination, where)
    assert not examination.route.form
    there = examine_beside(examination)
    assert (there is None) == (where == "faint")
    assert {"inner.a.weight", "inner.o.weight"} <= route_beside(examination, there).form


def test_where_everything_is_seen_nothing_is_looked_at_beside():
    model, X = gated("encoder", 0.3)
    examination = examine(model, X)
    assert not examination.unseen
    assert examine_beside(examination) is None
    assert route_beside(examination, None) == examination.route


def test_the_network_is_not_moved():
    model, X = gated("encoder", 0.0)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    there = examine_beside(examine(model, X))
    assert there is not None
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    assert all(not torch.equal(v, before[n]) for n, v in there.model.state_dict().items())


@pytest.mark.parametrize("gate", [0.0, 0.3])
def test_layers_that_see_rows_in_another_order_are_not_followed(gate):
    model, X = gated("rows reversed inside", gate)
    examination = examine(model, X)
    there = examine_beside(examination)
    beside = examination if there is None else there
    assert set(examination.cacheable) & set(beside.cacheable) == {"dense.weight"}
