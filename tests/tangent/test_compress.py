"""Each row factorized once, a few at a time, and kept in the smaller form: the kernel of one pass over all."""

from __future__ import annotations

import pytest
import torch

from oracles.odd_networks import KINDS
from oracles.zoo import ZOO, build
from whichmin.tangent.compress import compressed, merged
from whichmin.tangent.contract import contract
from whichmin.tangent.examine import examine
from whichmin.tangent.factors import factorize
from whichmin.tangent.layers.grams import Grams
from whichmin.tangent.model import trainable


def parts_of(model, X, step):
    parameters = trainable(model)
    return [compressed(factorize(model, parameters, X[i : i + step]), parameters) for i in range(0, len(X), step)]


def near(made, whole, parameters):
    for left, right in ((made, made), (made, whole), (whole, made)):
        K = contract(left, right, parameters, None, Grams())
        expected = contract(whole, whole, parameters, None, Grams())
        torch.testing.assert_close(K, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))


@pytest.mark.parametrize(("outputs", "step"), [(1, 1), (3, 2), (1, 5)])
@pytest.mark.parametrize("name", list(ZOO))
def test_parts_make_the_whole(name, outputs, step):
    model, X = build(name, outputs, 5)
    parameters = trainable(model)
    near(merged(parts_of(model, X, step), parameters), factorize(model, parameters, X), parameters)


@pytest.mark.parametrize("kind", ["experts of tokens", "lstm", "sequence first", "windows", "rows reversed inside"])
def test_uses_that_differ_from_part_to_part(kind):
    model, X = KINDS[kind].model(), KINDS[kind].rows(5)
    parameters = trainable(model)
    near(merged(parts_of(model, X, 2), parameters), factorize(model, parameters, X), parameters)


def test_the_smaller_form_is_kept_and_graphs_are_not():
    model, X = build("convnet", 2, 4)
    parameters = trainable(model)
    whole = factorize(model, parameters, X)
    (made,) = parts_of(model, X, 4)
    assert set(made.formed) | set(made.by_parameter) == set(whole.by_parameter)
    for name, uses in whole.by_parameter.items():
        factors = sum(f.gradient.numel() + (0 if f.use.input is None else f.input.numel()) for f in uses)
        gradients = 2 * 4 * parameters[name].numel()
        assert (name in made.formed) == (gradients < factors), name
    assert made.formed
    assert made.by_parameter
    assert not made.outputs.requires_grad
    edges = {f.use.edge.node for uses in made.by_parameter.values() for f in uses}
    assert len(edges) == 1, "those of no pass"


def test_bytes_that_are_kept():
    model, X = build("mlp", 2, 3)  # 6-9-8-2 without biases
    assert examine(model, X).bytes_kept() == pytest.approx(8 * (6 + 2 * 9 + 9 + 2 * 8 + 8 + 2 * 2), abs=2)
    everything = 8 * 2 * (6 * 9 + 9 * 8 + 8 * 2)
    assert examine(model, X).bytes_kept(("layers.0.weight", "layers.1.weight", "layers.2.weight")) == pytest.approx(
        everything, abs=2
    )
