"""Kernels that are multiplied and never formed, against those in memory, in float64."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.errors import MemoryPlanError, OptimizerError
from whichmin.kernels.linearize import Tangent
from whichmin.kernels.multiplied import MultipliedSpectrum
from whichmin.kernels.operator import KernelOperator

SGD = partial(torch.optim.SGD, lr=0.2)
SAID = "each product J(Jᵀv) is a backward and a forward pass"


@pytest.fixture
def setting(monkeypatch):
    """A network and a task of 24 outputs, whose kernel needs far more than ``memory``."""
    g = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(12, 5, generator=g, dtype=torch.float64), torch.randn(4, 5, generator=g).double()
    y, y_test = torch.randn(12, 2, generator=g, dtype=torch.float64), torch.randn(4, 2, generator=g).double()
    model = wm.networks.MLP((5, 64, 2), seed=0, activation="tanh").double()
    return model, wm.Task(X, y, X_test, y_test)


@pytest.fixture
def large(monkeypatch):
    """Kernels take 10⁸ times what they do, so that they do not fit."""
    monkeypatch.setattr("whichmin.dynamics.paths.holding.bytes_per_entry", lambda n, item: 10**8)
    monkeypatch.setattr("whichmin.dynamics.paths.position.PASS_BYTES", 40000)  # some rows at once


@pytest.mark.parametrize(
    ("optimizer", "given"),
    [
        (SGD, {"steps": 200}),
        (SGD, {"until": 0.1}),
        (partial(SGD, lr=0.1, momentum=0.9), {"steps": 50}),
        (partial(SGD, lr=0.1), {"flow": True, "steps": 30.5}),
        (SGD, {"steps": math.inf}),
        (partial(SGD, weight_decay=1e-3), {"steps": 50}),
        (partial(torch.optim.SGD, lr="best"), {"steps": 20}),
    ],
    ids=str,
)
def test_predictions_are_those_of_the_kernel_in_memory(setting, request, optimizer, given):
    held = wm.predict(*setting, optimizer, relinearize="never", **given)
    request.getfixturevalue("large")
    rate = {"lr": held.learning_rate}  # the smallest eigenvalue, of which the best one is made, is not known
    products = wm.predict(*setting, partial(optimizer, **rate), relinearize="never", memory="20 MB", **given)
    assert products.steps == held.steps
    assert float((products.test - held.test).abs().max()) < 1e-10
    assert float((products.train - held.train).abs().max()) < 1e-10
    assert products.terms.keys() == held.terms.keys()
    for name, term in held.terms.items():
        assert float((products.terms[name] - term).abs().max()) < 1e-9, name
    assert any(SAID in note for note in products.notes)
    assert not any(SAID in note for note in held.notes)
    assert products.error == pytest.approx(held.error, rel=1e-6)
    assert products.max_lr == pytest.approx(held.max_lr, rel=1e-9)


def test_the_plan_says_what_it_would_have_taken(setting, large):
    found = wm.predict(*setting, SGD, steps=5, relinearize="never", memory="20 MB")
    said = next(note for note in found.notes if SAID in note)
    assert "the kernel of 12·2 training outputs and what it is solved with needs 53.6 GiB" in said
    assert "there are 20.0 MiB" in said


def test_no_kernel_is_formed(setting, large, monkeypatch):
    from whichmin.tangent.features import Features

    gram, rows = Features.gram, []

    def watched(self, other=None, metric=None):
        rows.append((len(self.outputs), len((self if other is None else other).outputs)))
        return gram(self, other, metric)

    monkeypatch.setattr(Features, "gram", watched)
    monkeypatch.setattr("whichmin.dynamics.paths.position.ROUNDED", 3)
    wm.predict(*setting, SGD, steps=5, relinearize="never", memory="20 MB")
    assert (12, 12) not in rows
    assert max(a for a, _ in rows) <= 4, "of few rows, and of the test points"


def test_what_needs_more_than_products_is_refused(setting, large):
    model, task = setting
    asked = {"steps": 5, "memory": "20 MB"}
    with pytest.raises(MemoryPlanError, match=r"more than memory = 20.0 MiB. Pass tiles=FOLDER"):
        wm.predict(model, task, SGD, **asked)
    never = asked | {"relinearize": "never"}
    with pytest.raises(MemoryPlanError, match="mini-batches read columns of the kernel of 24 outputs"):
        wm.predict(model, task, SGD, batch_size=4, **never)
    with pytest.raises(OptimizerError, match="that is not held serves rules that are known in function space"):
        wm.predict(model, task, torch.optim.Adam, **never)
    huber = wm.Task(task.X, task.y, task.X_test, task.y_test, loss=nn.HuberLoss())
    with pytest.raises(MemoryPlanError, match="need the kernel of 24 outputs in memory"):
        wm.predict(model, huber, SGD, **never)
    with pytest.raises(MemoryPlanError, match=r"holding the features of 12 training points needs .* Allow more memory"):
        wm.predict(model, task, SGD, **never | {"memory": 1000})


def test_forward_derivatives_that_are_others_are_refused(setting, large, monkeypatch):
    from whichmin.kernels import linearize

    jvp = linearize.jvp
    monkeypatch.setattr(linearize, "jvp", lambda *args: 1.01 * jvp(*args))
    with pytest.raises(MemoryPlanError, match="forward derivatives of this network differ from its backward ones"):
        wm.predict(*setting, SGD, steps=5, relinearize="never", memory="20 MB")


@pytest.mark.parametrize("at_once", [None, 5, 1])
def test_functions_of_the_operator_are_those_of_the_kernel(setting, at_once):
    model, task = setting
    dense = wm.tangent_kernel(model, task.X)
    K = dense.transpose(1, 2).reshape(24, 24).numpy()
    operator = KernelOperator(Tangent(model), task.X, task.X, None, 2, at_once)
    spectrum = MultipliedSpectrum.by(operator, K.diagonal(), 1.0, np.finfo(np.float64).eps)
    v = np.random.default_rng(0).standard_normal((24, 3))
    assert np.abs(spectrum.apply(v) - K @ v).max() < 1e-12 * np.abs(K).max()
    assert np.abs(spectrum.apply(v[:, 0]) - K @ v[:, 0]).max() < 1e-12 * np.abs(K).max()
    assert np.abs(K @ spectrum.solve(v) - v).max() < 1e-9
    assert spectrum.largest == pytest.approx(np.linalg.eigvalsh(K)[-1])
    assert (spectrum.size, spectrum.rank) == (24, 24)


def test_the_inverse_takes_no_products_that_their_rounding_makes_useless(monkeypatch):
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((600, 600)))
    K = torch.from_numpy((Q * np.arange(1.0, 601) ** -1.5) @ Q.T).float()
    b, made, left = np.random.default_rng(1).standard_normal(600), [], []

    class Operator:
        def matvec(self, v):
            made[-1] += 1
            return K @ v.float()

    for rounded in (0.0, None):
        if rounded is not None:
            monkeypatch.setattr("whichmin.kernels.multiplied.ROUNDED", rounded)
        made.append(0)
        x = MultipliedSpectrum.by(Operator(), K.diagonal().double().numpy(), 1.0, 2.0**-23).solve(b)
        left.append(np.linalg.norm(K.double().numpy() @ x - b) / np.linalg.norm(b))
        monkeypatch.undo()
    assert made[1] < 0.7 * made[0]
    assert left[1] < max(3 * left[0], 1e-4)
