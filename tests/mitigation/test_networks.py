"""The networks that remedies leave: what they compute at the start, and after saving."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.remedies import network, sgd, task
from whichmin.errors import ModelError
from whichmin.inputs import Output
from whichmin.mitigation import (
    Antisymmetric,
    AntisymmetricNetwork,
    Centered,
    CenteredNetwork,
    Ensemble,
    EnsembleNetwork,
    Subtract,
    SubtractedNetwork,
)

X = task().X


class Answers(nn.Module):
    """Returns a dictionary, and takes its inputs by name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x, mask=None):
        return {"hidden": x, "wanted": self.model(x if mask is None else x * mask)}


def moved(model: nn.Module) -> nn.Module:
    """A copy with other parameters, no two of which move alike."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(6)
    with torch.no_grad():
        for p in other.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return other


@pytest.mark.parametrize("kind", [AntisymmetricNetwork, CenteredNetwork])
def test_it_is_zero_at_the_start_with_the_kernel_of_the_network(kind):
    model = network(width=16)
    made = kind(model)
    assert torch.equal(made(X), torch.zeros_like(made(X)))
    torch.testing.assert_close(wm.tangent_kernel(made, X), wm.tangent_kernel(model, X), rtol=1e-10, atol=1e-12)


def test_antisymmetric_copies_are_a_difference_over_the_root_of_two():
    model = network(width=16)
    made = AntisymmetricNetwork(model)
    made.plus = moved(model)
    torch.testing.assert_close(made(X), (made.plus(X) - model(X)) / math.sqrt(2))


def test_centering_trains_one_copy():
    made = CenteredNetwork(network(width=16))
    trained = [name for name, p in made.named_parameters() if p.requires_grad]
    assert trained == ["network.layers.0.weight", "network.layers.1.weight"]


def test_the_subtracted_term_is_that_of_the_theory():
    """f₀(x) − K(x, X) K⁺ f₀(X), which is zero on X."""
    model, problem = network(width=64), task()
    K, cross = wm.tangent_kernel(model, X)[..., 0, 0], wm.tangent_kernel(model, problem.X_test, X)[..., 0, 0]
    c = torch.linalg.solve(K, model(X)[:, 0]).detach()
    tangent = wm.Tangent(model)
    made = SubtractedNetwork(moved(model), model, tangent.vjp(X, c[:, None]))
    expected = (model(problem.X_test) - (cross @ c)[:, None]).detach()
    torch.testing.assert_close(made.initialization(problem.X_test), expected, rtol=1e-8, atol=1e-10)
    assert float(made.initialization(X).abs().max()) < 1e-9
    torch.testing.assert_close(made(problem.X_test), moved(model)(problem.X_test) - expected, rtol=1e-8, atol=1e-10)


def test_it_is_what_a_prediction_calls_the_initialization():
    model, problem = network(), task()
    predicted = wm.predict(model, problem, sgd(model), relinearize="never")
    K = wm.spectrum(wm.tangent_kernel(model, X))
    c = K.vectors @ ((K.vectors.mT @ model(X).detach()[:, 0]) / K.eigenvalues)
    made = SubtractedNetwork(predicted.model(), model, wm.Tangent(model).vjp(X, c[:, None]))
    torch.testing.assert_close(
        made.initialization(problem.X_test), predicted.terms["initialization"].to(X), rtol=1e-7, atol=1e-9
    )


def test_an_ensemble_is_the_mean():
    members = [network(width=8, seed=seed) for seed in range(3)]
    torch.testing.assert_close(EnsembleNetwork(members)(X), torch.stack([m(X) for m in members]).mean(0))


@pytest.mark.parametrize(
    ("method", "made"),
    [
        (Antisymmetric(), lambda m, o: AntisymmetricNetwork(m, o)),
        (Centered(), lambda m, o: CenteredNetwork(m, o)),
        (Subtract(), lambda m, o: SubtractedNetwork(m, m, {n: p.detach() for n, p in m.named_parameters()}, o)),
        (Ensemble(), lambda m, o: EnsembleNetwork([m, moved(m), m], o)),
    ],
    ids=["antisymmetric", "centered", "subtract", "ensemble"],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_state_fits_into_a_shell(method, made, named):
    model = Answers(network(width=8)) if named else network(width=8)
    output = Output("wanted") if named else None
    original = moved(made(model, output))
    shell = method.shell(model, original.state_dict(), output)
    shell.load_state_dict(original.state_dict())
    assert torch.equal(shell(X), original(X))
    if named:
        mask = torch.ones_like(X)
        mask[0] = 0
        assert torch.equal(shell(x=X, mask=mask), original(x=X, mask=mask))
        assert not torch.equal(shell(x=X, mask=mask), shell(X))


def test_arguments_are_by_name_or_by_position():
    model = Answers(network(width=8))
    made = SubtractedNetwork(model, model, {n: p.detach() for n, p in model.named_parameters()}, Output("wanted"))
    with pytest.raises(ModelError, match="positional and keyword arguments together"):
        made(X, mask=torch.ones_like(X))
