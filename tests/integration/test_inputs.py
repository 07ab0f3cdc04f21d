"""Inputs by name and by position, and outputs that are picked, through every verb."""

from __future__ import annotations

import contextlib
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import whichmin as wm
from oracles.linear_rules import distance
from oracles.named_inputs import Pair, Reader, jacobian, kernel, padded, pairs, second
from oracles.pages import without_drawings
from whichmin.errors import ModelError
from whichmin.inputs import tensors_of
from whichmin.results import Result

N, N_TEST = 6, 4
GD = partial(torch.optim.SGD, lr=0.05)
RECIPES = {
    "gd": wm.Recipe(GD),
    "momentum in mini-batches": wm.Recipe(partial(torch.optim.SGD, lr=0.02, momentum=0.5), batch_size=2),
    "adam": wm.Recipe(partial(torch.optim.Adam, lr=1e-3)),
    "adam in mini-batches": wm.Recipe(partial(torch.optim.Adam, lr=1e-3), batch_size=2),
}


def targets(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reading(outputs=2):
    y = targets(N + N_TEST, outputs)
    return wm.Task(padded(N), y[:N], padded(N_TEST, seed=7), y[N:])


def pairing():
    y = targets(N + N_TEST, 2, 3)
    return wm.Task(pairs(N), y[:N], pairs(N_TEST, seed=7), y[N:], output=second)


CASES = {"by name": (Reader, reading), "by position": (Pair, pairing)}


@pytest.fixture(params=CASES)
def case(request):
    network, task = CASES[request.param]
    return network, task()


#: All recipes with one form of inputs, and one of each kind with the other.
WITH_RECIPES = pytest.mark.parametrize(
    ("case", "recipe"),
    [*(("by position", recipe) for recipe in RECIPES), ("by name", "gd"), ("by name", "adam in mini-batches")],
    indirect=["case"],
)


def single(model, X, i):
    returned = X[i : i + 1].call(model)
    return returned.logits if isinstance(model, Reader) else second(returned)


def J_of(model, X):
    return jacobian(model, lambda i: single(model, X, i), len(X))


@pytest.mark.parametrize("method", ["auto", "layerwise", "jacobian"])
def test_kernels_are_those_of_autograd(case, method):
    network, task = case
    model = network()
    J, J_test = J_of(model, task.X), J_of(model, task.X_test)
    torch.testing.assert_close(wm.tangent_kernel(model, task.X, method=method), kernel(J), rtol=1e-10, atol=1e-10)
    cross = wm.tangent_kernel(model, task.X_test, task.X, method=method)
    torch.testing.assert_close(cross, kernel(J_test, J), rtol=1e-10, atol=1e-10)


def test_kernels_as_operators(case):
    network, task = case
    model = network()
    K = kernel(J_of(model, task.X_test), J_of(model, task.X))
    operator = wm.kernel_operator(model, task.X_test, task.X)
    torch.testing.assert_close(operator.to_dense(), K, rtol=1e-10, atol=1e-10)


def test_mappings_and_tuples_themselves_are_inputs_of_kernels():
    model, X = Reader(), padded(5)
    assert torch.equal(wm.tangent_kernel(model, X), wm.tangent_kernel(model, wm.Task(X, targets(5, 2)).X))
    torch.testing.assert_close(wm.kernel_operator(model, X).to_dense(), wm.tangent_kernel(model, X))
    tangent = wm.Tangent(model)
    torch.testing.assert_close(tangent.f0(X), model(**X).logits.detach())
    zero = {name: torch.zeros_like(p) for name, p in tangent.parameters.items()}
    assert not tangent.jvp(X, zero).any()
    pulled = tangent.vjp(X, torch.ones(5, 2, dtype=torch.float64))
    assert set(pulled) == set(zero)


@WITH_RECIPES
def test_predictions_are_where_training_goes(case, recipe):
    network, task = case
    model = network()
    run = wm.train(model, task, RECIPES[recipe], steps=25, until=None)
    followed = wm.predict(model, task, RECIPES[recipe], steps=25, relinearize="path", tol=1e-3)
    moved = distance(run.test, wm.Tangent(model).f0(task.X_test))
    assert followed.test.shape == run.test.shape == (N_TEST, task.outputs)
    assert distance(followed.test, run.test) < 0.05 * moved


def test_training_is_the_loop_that_one_would_write():
    task, model = reading(), Reader()
    run = wm.train(model, task, GD, steps=10, until=None)
    optimizer = GD(model.parameters())
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(**padded(N)).logits, task.y).backward()
        optimizer.step()
    torch.testing.assert_close(run.train, model(**padded(N)).logits.detach(), rtol=1e-9, atol=1e-9)


@WITH_RECIPES
def test_terms_add_up(case, recipe, tmp_path):
    network, task = case
    explained = wm.explain(wm.train(network(), task, RECIPES[recipe], steps=10, until=None))
    torch.testing.assert_close(sum(explained.terms.values()), explained.run.test, rtol=1e-9, atol=1e-9)
    explained.save(tmp_path / "explained")
    loaded = type(explained).load(tmp_path / "explained")
    for a, b in zip(tensors_of(loaded.task.X), tensors_of(task.X), strict=True):
        assert torch.equal(a, b)
    with contextlib.nullcontext() if recipe == "gd" else without_drawings():
        explained.report(tmp_path / "report.html")
    assert "test" in (tmp_path / "report.html").read_text()


class Rows:
    """A data set of mappings, as of tokenized texts."""

    def __init__(self, task):
        self.task = task

    def __len__(self):
        return self.task.n

    def __getitem__(self, i):
        inputs = {name: t[i] for name, t in self.task.X.tensors.items()}
        return inputs | {"labels": self.task.y[i]}


def loader_of(task, form):
    rows = Rows(task) if form == "mapping" else torch.utils.data.TensorDataset(*task.X.tensors, task.y)
    return DataLoader(rows, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "form"), [("by name", "mapping"), ("by position", "tuple")])
def test_recorded_loops_are_explained_and_replayed(name, form):
    network, make = CASES[name]
    task, model = make(), network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(4):
            for batch in loader_of(task, form):
                optimizer.zero_grad()
                if form == "mapping":
                    y = batch.pop("labels")
                    out = model(**batch).logits
                else:
                    *x, y = batch
                    out = second(model(*x)).flatten(1)
                nn.functional.mse_loss(out, y).backward()
                optimizer.step()
    assert not recorder.notes
    plain = wm.explain(recorder)
    torch.testing.assert_close(sum(plain.terms.values()), recorder.run().test, rtol=1e-9, atol=1e-9)


def test_a_replay_knows_the_rows_of_its_batches():
    task, model = reading(), Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = loader_of(task, "mapping")
    with wm.Recorder(model, optimizer, task) as recorder:
        for batch in loader:
            y = batch.pop("labels")
            optimizer.zero_grad()
            nn.functional.mse_loss(model(**batch).logits, y).backward()
            optimizer.step()
    replayed = wm.explain(recorder, loader=loader_of(task, "mapping"))
    assert "history" in replayed.terms
    torch.testing.assert_close(sum(replayed.terms.values()), recorder.run().test, rtol=1e-9, atol=1e-9)
    with pytest.raises(
        wm.errors.InputError,
        match=r"batch 0 of the loader .* shape input_ids \(rows, 6\), atten",
    ):
        wm.explain(recorder, loader=[[task.y]])


def test_choices_and_seeds(tmp_path):
    task = reading()
    choices = {"gd": GD, "adam": RECIPES["adam"]}
    compared = wm.compare(Reader, task, choices, seeds=2, steps=5, until=None, out=tmp_path, tol=1e-2)
    assert isinstance(compared, Result)
    spread = wm.seeds(Reader, task, GD, 2, steps=5, tol=1e-2)
    torch.testing.assert_close(compared.predicted["gd"], spread.test, rtol=1e-6, atol=1e-6)


def test_a_picked_output_is_the_one_that_is_followed():
    X, y = padded(N), targets(N, 8)
    task = wm.Task(X, y, output="pooled")
    model = Reader()
    frozen = [name for name, p in model.named_parameters() if name.startswith("out")]
    run = wm.train(model, task, GD, steps=3, until=None)
    assert run.train.shape == (N, 8)
    assert all(torch.equal(run.final[name], run.initial[name]) for name in frozen), "the last layer has no part in it"
    by_function = wm.Task(X, y, output=lambda out: out.pooled)
    assert torch.equal(wm.train(model, by_function, GD, steps=3, until=None).train, run.train)


def test_a_single_tensor_with_a_picked_output():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            out = self.layer(x)
            return {"a": out, "b": out[:, :1] * 2}

    X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    task = wm.Task(X, torch.zeros(5), X[:2], output="b")
    model = Both()
    J = torch.cat([X, torch.ones(5, 1)], 1) * 2
    torch.testing.assert_close(wm.tangent_kernel(model, task.X)[:, :, 0, 0], J @ J.T)
    assert wm.predict(model, task, GD, steps=2).test.shape == (2, 1)


@pytest.mark.parametrize(
    ("X", "settings", "message"),
    [
        (padded(N), {"output": "scores"}, r"output='scores' is not among .* a Returned with 'logits', 'pooled'"),
        (
            padded(N),
            {"output": lambda out: out[0]},
            r"output= failed on what the model returned, a Retu.*TypeError",
        ),
        (padded(N), {"output": lambda out: "x"}, r"output=a function gives a str; expected a tensor"),
        (padded(N) | {"unused": torch.arange(N)}, {}, r"of Reader do not change with X\['unused'\]: it ignores this"),
        (padded(N) | {"masks": torch.arange(N)}, {}, r"unexpected keyword argument 'masks'.*input_ids, attention_mask"),
        ({"input_ids": padded(N)["input_ids"]}, {}, r"missing 1 required positional argument: 'attention_mask'"),
    ],
)
def test_inputs_and_outputs_that_the_model_does_not_have(X, settings, message):
    task = wm.Task(X, targets(N, 2), **settings)
    for verb in (wm.predict, wm.train):
        with pytest.raises(ModelError, match=message):
            verb(Reader(), task, GD, steps=2)
    with pytest.raises(ModelError, match=message):
        wm.tangent_kernel(Reader(), task.X)


def test_outputs_of_other_axes_than_the_targets():
    y = targets(N, 3, 2)
    with pytest.raises(ModelError, match=r"returns \(2, 3\) for a row and its targets are \(3, 2\): move the axes"):
        wm.train(Pair(), wm.Task(pairs(N), y, output=second), GD, steps=1)
    flat = wm.Task(pairs(N), y.movedim(1, 2).flatten(1), output=second)
    shaped = wm.Task(pairs(N), y.movedim(1, 2), output=second)
    runs = [wm.train(Pair(), task, GD, steps=2, until=None) for task in (flat, shaped)]
    assert torch.equal(runs[0].train, runs[1].train)


class Positions(nn.Module):
    """Three classes at three positions of a row, the classes' axis first as torch's losses have it, or last."""

    def __init__(self, last):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.last = nn.Linear(4, 9), last

    def forward(self, x):
        out = self.layer(x).reshape(-1, 3, 3)
        return out.movedim(1, -1) if self.last else out


def test_axes_of_one_size_of_which_any_may_be_the_classes():
    draw = torch.Generator().manual_seed(0)
    X, y = torch.randn(N, 4, generator=draw), torch.randint(0, 3, (N, 3), generator=draw)
    loss = nn.CrossEntropyLoss()
    task = wm.Task(X, y, loss=loss, classes=3)
    for verb in (wm.train, wm.predict):
        with pytest.raises(ModelError, match=r"returns \(3, 3\) for a row, and which of these axes is the classes'"):
            verb(Positions(last=False), task, GD, steps=1)
    first = wm.Task(X, y, loss=loss, classes=3, output=lambda out: out.movedim(1, -1))
    last = wm.Task(X, y, loss=loss, classes=3, output=lambda out: out)
    runs = [wm.train(Positions(last=t is last), t, GD, steps=3) for t in (first, last)]
    assert torch.equal(runs[0].train, runs[1].train)
    model = Positions(last=False)
    optimizer = GD(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        loss(model(X), y).backward()
        optimizer.step()
    assert distance(runs[0].train, model(X).detach().movedim(1, -1).reshape(N, 9)) < 1e-6
    with pytest.raises(ModelError, match=r"expected 6, .*classes=…. with the number of all classes"):
        wm.train(Positions(last=True), wm.Task(X, y % 2, loss=loss), GD, steps=1)


class Pixels(nn.Module):
    """Takes bytes, or the same numbers as floating-point ones."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(16, 2)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x.float() / 255)).flatten(1))


@pytest.mark.parametrize("row_span", [False, True])
def test_bytes_that_the_model_itself_scales(row_span):
    images = torch.randint(0, 256, (N + N_TEST, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = targets(N, 2)
    bytes_of, floats = (wm.Task(x[:N], y, x[N:]) for x in (images, images.float()))
    runs = [wm.train(Pixels(), task, GD, steps=3, row_span=row_span) for task in (bytes_of, floats)]
    assert torch.equal(runs[0].test, runs[1].test)
    assert distance(wm.explain(runs[0]).total, runs[0].test.double()) < 1e-6
    for relinearize in ("never", "path"):
        predicted = [wm.predict(Pixels(), task, GD, steps=3, relinearize=relinearize) for task in (bytes_of, floats)]
        assert torch.equal(predicted[0].test, predicted[1].test)
