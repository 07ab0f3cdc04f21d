"""Every verb on a GPU: the same numbers as on the CPU."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance
from oracles.odd_networks import KINDS
from oracles.zoo import plain_jacobian
from whichmin.cli.main import main
from whichmin.errors import ModelError
from whichmin.papers.figure import Size
from whichmin.papers.reproduce import reproduce

#: Another device in its place shows that the tests themselves are right where there is no GPU.
DEVICE = torch.device(os.environ.get("WHICHMIN_TEST_DEVICE", "cuda"))
pytestmark = pytest.mark.skipif(
    DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="there is no GPU that torch can use"
)
N, N_TEST = 12, 6
SGD = partial(torch.optim.SGD, lr=0.1)
RECIPES = {
    "gd": wm.Recipe(SGD),
    "weight decay": wm.Recipe(partial(torch.optim.SGD, lr=0.1, weight_decay=1e-2)),
    "nesterov": wm.Recipe(partial(torch.optim.SGD, lr=0.05, momentum=0.8, nesterov=True)),
    "momentum in batches": wm.Recipe(partial(torch.optim.SGD, lr=0.05, momentum=0.5), batch_size=5),
    "a schedule": wm.Recipe(SGD, scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.97)),
    "adam": wm.Recipe(partial(torch.optim.Adam, lr=1e-3)),
    "adagrad": wm.Recipe(partial(torch.optim.Adagrad, lr=1e-3)),
    "adamw in batches": wm.Recipe(partial(torch.optim.AdamW, lr=1e-3, amsgrad=True), batch_size=5),
    "fused adam": wm.Recipe(partial(torch.optim.Adam, lr=1e-3, fused=True)),
}
recipes = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
LOSSES = {"mse": nn.MSELoss(), "huber": nn.HuberLoss(delta=0.3), "cross-entropy": nn.CrossEntropyLoss()}
losses = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def network(dtype=torch.float64, outputs=2):
    return wm.networks.MLP((5, 40, outputs), activation="tanh", seed=3).to(dtype)


def on_device(seed, device):
    return wm.networks.MLP((5, 30, 2), activation="tanh", seed=seed).double().to(device)


def task_of(loss=LOSSES["mse"], dtype=torch.float64, device="cpu"):
    draw = torch.Generator().manual_seed(4)
    X = torch.randn(N + N_TEST, 5, generator=draw, dtype=torch.float64).to(dtype)
    signs = X[:, :2].sign()
    y = (signs[:, 0] > 0).long() if isinstance(loss, nn.CrossEntropyLoss) else signs
    return wm.Task(X[:N], y[:N], X[N:], y[N:], loss=loss).to(device)


def on_both(verb, of=lambda result: result.test, dtype=torch.float64, loss=LOSSES["mse"]):
    """What a verb finds on the CPU and on the GPU, where the network was and where it is afterwards."""
    expected = verb(network(dtype), task_of(loss, dtype))
    model = network(dtype).to(DEVICE)
    found = verb(model, task_of(loss, dtype, DEVICE))
    assert all(p.device.type == DEVICE.type and p.grad is None for p in model.parameters())
    assert distance(of(found).cpu(), of(expected)) < 1e-7 * of(expected).std()
    return found


@pytest.mark.parametrize("kind", list(KINDS))
def test_kernels(kind):
    """Also of networks that make tensors on the default device, and of recurrent ones, which torch differentiates on a
    GPU in training mode only."""
    model = KINDS[kind].model().to(DEVICE).train(kind in ("lstm", "gru", "rnn"))
    x1, x2 = KINDS[kind].rows(5).to(DEVICE), KINDS[kind].rows(4, seed=1).to(DEVICE)
    tolerance = 1e-5 if kind == "outputs of single precision" else 1e-9
    with DEVICE:
        J1, J2 = (torch.cat([j.flatten(2) for j in plain_jacobian(model, x.clone()).values()], 2) for x in (x1, x2))
        for inputs, J in (((x1,), J1), ((x1, x2), J2)):
            K = torch.einsum("ncp,mdp->nmcd", J1.double(), J.double())
            found = wm.tangent_kernel(model, *inputs)
            assert found.device.type == DEVICE.type
            torch.testing.assert_close(found.double(), K, rtol=0, atol=tolerance * float(K.abs().max()))


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_recurrent_networks(kind, training):
    model, x = KINDS[kind].model().train(training).to(DEVICE), KINDS[kind].rows(5).to(DEVICE)
    task = wm.Task(x, torch.ones(5, 2, dtype=torch.float64, device=DEVICE), x[:2] / 2)
    for verb in (partial(wm.predict, relinearize="path"), partial(wm.train, until=None)):
        expected = verb(KINDS[kind].model(), task.to("cpu"), SGD, steps=5)
        found = verb(model, task, SGD, steps=5)
        assert distance(found.test.cpu(), expected.test) < 1e-7


def test_a_residual_network_with_cross_entropy():
    """Of many layers, whose convolutions torch would make of tf32."""
    draw = torch.Generator().manual_seed(2)
    X, y = torch.randn(30, 3, 16, 16, generator=draw), torch.arange(30) % 3
    task = wm.Task(X[:20], y[:20], X[20:], y[20:], loss=nn.CrossEntropyLoss())
    network = lambda: wm.networks.ResNet(3, 3, 8, seed=0)  # noqa: E731
    recipe = wm.Recipe(partial(torch.optim.SGD, lr=0.02))
    on_cpu = wm.predict(network(), task, recipe, steps=10, relinearize="never")
    found = wm.predict(network().to(DEVICE), task.to(DEVICE), recipe, steps=10, relinearize="never")
    assert distance(found.test.cpu(), on_cpu.test) < 1e-3 * on_cpu.test.std()
    run = wm.train(network().to(DEVICE), task.to(DEVICE), recipe, steps=10, until=None)
    followed = wm.predict(network().to(DEVICE), task.to(DEVICE), recipe, steps=10, relinearize="path")
    assert distance(followed.test, run.test) < 4 * followed.error + 1e-4


def test_recorded_loops_of_convolutions():
    draw = torch.Generator().manual_seed(1)
    X, y = torch.randn(20, 3, 8, 8, generator=draw), torch.randn(20, 1, generator=draw)
    named = []
    for device in ("cpu", DEVICE):
        task = wm.Task(X[:12], y[:12], X[12:], y[12:]).to(device)
        model = wm.networks.CNN((3, 32, 32), outputs=1, seed=0).to(device)
        optimizer = SGD(model.parameters())
        with wm.Recorder(model, optimizer, task) as recorder:
            for _ in range(20):
                optimizer.zero_grad()
                task.loss(model(task.X), task.y).backward()
                optimizer.step()
        explained = wm.explain(recorder)
        assert distance(explained.total.cpu(), model(task.X_test).detach().cpu()) < 5e-3
        named.append(set(explained.terms))
    assert named[0] == named[1]


def test_operators_and_products():
    model, task = network().to(DEVICE), task_of(device=DEVICE)
    K = wm.tangent_kernel(model, task.X)
    torch.testing.assert_close(wm.kernel_operator(model, task.X).to_dense(), K)
    tangent = wm.Tangent(model)
    pulled = tangent.vjp(task.X, task.y)
    pushed = tangent.jvp(task.X, pulled)
    torch.testing.assert_close(pushed, torch.einsum("nmcd,md->nc", K, task.y))
    on_cpu = wm.spectrum(wm.tangent_kernel(network(), task_of().X))
    torch.testing.assert_close(wm.spectrum(K).eigenvalues.cpu(), on_cpu.eigenvalues)


@recipes
def test_training(recipe):
    on_both(lambda model, task: wm.train(model, task, recipe, steps=30, until=None))


@pytest.mark.parametrize("row_span", [False, True])
def test_training_to_a_loss(row_span):
    on_both(lambda model, task: wm.train(model, task, SGD, until=1e-2, row_span=row_span))


@pytest.mark.parametrize("relinearize", ["never", "path", 5, "auto"])
@recipes
def test_predictions(recipe, relinearize):
    on_both(lambda model, task: wm.predict(model, task, recipe, steps=30, relinearize=relinearize))


@losses
@pytest.mark.parametrize("relinearize", ["never", "path"])
@pytest.mark.parametrize("name", ["gd", "momentum in batches", "adam"])
def test_predictions_of_any_loss(loss, relinearize, name):
    verb = lambda model, task: wm.predict(model, task, RECIPES[name], steps=30, relinearize=relinearize)  # noqa: E731
    on_both(verb, loss=loss)


def test_what_is_made_later_of_a_prediction_by_training(tmp_path):
    verb = lambda model, task: wm.predict(model, task, RECIPES["adamw in batches"], steps=20)  # noqa: E731
    found = on_both(verb, of=lambda prediction: torch.stack([t.cpu() for t in prediction.terms.values()]))
    assert found.method == "trained"
    torch.testing.assert_close(sum(found.terms.values()), found.test.cpu())
    found.report(tmp_path / "it.html")


def test_ends_of_training():
    on_both(lambda model, task: wm.predict(model, task, SGD, steps=float("inf"), relinearize="never"))
    on_both(lambda model, task: wm.predict(model, task, SGD, until=1e-2))
    on_both(lambda model, task: wm.predict(model, task, SGD, flow=True, steps=20, relinearize="never"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision(dtype):
    """Real training is as far as the error says."""
    model, task = network(dtype).to(DEVICE), task_of(dtype=dtype, device=DEVICE)
    run = wm.train(model, task, SGD, steps=20, until=None)
    found = wm.predict(model, task, SGD, steps=20, relinearize="path")
    assert distance(found.test.double(), run.test.double()) < 4 * found.error + 1e-6


@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("relinearize", ["never", "path"])
def test_convolutions_in_single_precision(relinearize, precision):
    """Where convolutions, and if asked for also products of matrices, are of tf32 on a GPU."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        draw = torch.Generator().manual_seed(1)
        X, y = torch.randn(20, 3, 8, 8, generator=draw), torch.randn(20, 1, generator=draw)
        task = wm.Task(X[:12], y[:12], X[12:], y[12:]).to(DEVICE)
        model = wm.networks.CNN((3, 64, 64), outputs=1, seed=0).to(DEVICE)
        K = wm.tangent_kernel(model, task.X)
        J = torch.cat([j.flatten(2) for j in plain_jacobian(model.double(), task.X.double()).values()], 2)
        exact = torch.einsum("ncp,mdp->nmcd", J, J)
        torch.testing.assert_close(K.double(), exact, rtol=0, atol=1e-3 * float(exact.abs().max()))
        model = model.float()
        run = wm.train(model, task, SGD, steps=20, until=None)
        found = wm.predict(model, task, SGD, steps=20, relinearize=relinearize)
        assert distance(found.test, run.test) < 4 * found.error + 1e-6
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", ["gd", "momentum in batches", "adam", "adamw in batches"])
def test_explanations(name, tmp_path):
    verb = lambda model, task: wm.explain(model, task, RECIPES[name], steps=30)  # noqa: E731
    found = on_both(verb, of=lambda e: torch.stack([t.cpu() for t in e.terms.values()]))
    found.save(tmp_path / "it")
    again = wm.Explanation.load(tmp_path / "it")
    assert all(torch.equal(again.terms[name].cpu(), values.cpu()) for name, values in found.terms.items())
    found.report(tmp_path / "it.html")
    assert len(found.to_frame()) > 0
    assert str(found)


@pytest.mark.parametrize("name", ["gd", "adam"])
def test_recorded_loops(name):
    model, task = network().to(DEVICE), task_of(device=DEVICE)
    optimizer = RECIPES[name].build(model.parameters())
    recorder = wm.Recorder(model, optimizer, task)
    with recorder:
        for _ in range(20):
            optimizer.zero_grad()
            task.loss(model(task.X), task.y).backward()
            optimizer.step()
    explained = wm.explain(recorder)
    torch.testing.assert_close(explained.total.cpu(), model(task.X_test).detach().cpu())


def test_comparisons_and_seeds(tmp_path):
    choices = {"gd": RECIPES["gd"], "adam": RECIPES["adam"]}
    drawn = lambda model: partial(on_device, device=next(model.parameters()).device)  # noqa: E731
    verb = lambda model, task: wm.compare(drawn(model), task, choices, seeds=2, steps=20, train=True)  # noqa: E731
    found = on_both(verb, of=lambda c: torch.stack([t.cpu() for t in (*c.predicted.values(), *c.trained.values())]))
    found.report(tmp_path / "it.html")
    spread = on_both(lambda model, task: wm.seeds(drawn(model), task, SGD, seeds=3, steps=20))
    spread.report(tmp_path / "seeds.html")


def test_mitigation(tmp_path):
    verb = lambda model, task: wm.mitigate(model, task, SGD, validation=0.25, train="all", steps=40, until=None)  # noqa: E731
    found = on_both(verb, of=lambda m: torch.stack([r.outcome.validation.cpu() for r in m.remedies if not r.failure]))
    assert next(found.model().parameters()).device.type == DEVICE.type
    found.report(tmp_path / "it.html")


@pytest.mark.parametrize(
    ("name", "relinearize"),
    [("gd", "never"), ("gd", "path"), ("gd", "auto"), ("adam", "path"), ("adamw in batches", "auto")],
)
def test_left_out_rows(name, relinearize, tmp_path):
    verb = lambda model, task: wm.leave_out(  # noqa: E731
        model, task, RECIPES[name], [[0], [1, 2]], steps=20, until=None, relinearize=relinearize
    )
    found = on_both(verb)
    assert (name == "adamw in batches") == ("trained" in found.method)
    found.report(tmp_path / "it.html")


def test_minimizers_and_infinite_width():
    task = task_of()
    K, K_test = wm.tangent_kernel(network(), task.X), wm.tangent_kernel(network(), task.X_test, task.X)
    on_cpu = wm.minimizers.minimum_complexity(K, K_test, task.y)
    found = wm.minimizers.minimum_complexity(K.to(DEVICE), K_test.to(DEVICE), task.y.to(DEVICE))
    torch.testing.assert_close(found.cpu(), on_cpu)
    rectified = lambda: wm.networks.MLP((5, 40, 40, 2), seed=3).double()  # noqa: E731
    on_cpu = wm.infinite.predict(rectified(), task, 0.1, steps=20)
    found = wm.infinite.predict(rectified().to(DEVICE), task.to(DEVICE), 0.1, steps=20)
    torch.testing.assert_close(found.mean.cpu(), on_cpu.mean)
    torch.testing.assert_close(found.std.cpu(), on_cpu.std)


def test_dropout_is_found_by_the_random_state_of_the_device():
    model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 1)).double().to(DEVICE)
    with pytest.raises(ModelError, match="random"):
        wm.tangent_kernel(model.train(), task_of(device=DEVICE).X)


@pytest.mark.parametrize("verb", [wm.train, wm.predict, wm.explain])
def test_inputs_on_another_device_than_the_network(verb):
    if DEVICE.type == "cpu":
        pytest.skip("there is only one device")
    with pytest.raises(wm.errors.WhichminError, match=r"cpu.*cuda|cuda.*cpu"):
        verb(network().to(DEVICE), task_of(), SGD, steps=5)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["explain", "--data", "digits", "--hidden", "64", "--n-train", "20", "--steps", "50", "--seeds", "1"]
    assert main([*arguments, "--device", str(DEVICE)]) == 0, capsys.readouterr().err
    assert (tmp_path / "whichmin-out" / "explain.html").is_file()


def test_a_figure_of_the_papers(tmp_path):
    """Where only the network is on the GPU: the numbers of the CPU."""
    tables = []
    for device in ("cpu", str(DEVICE)):
        size = Size(data="digits", device=device)
        (found,) = reproduce(["which-minimizer/fig5"], tmp_path / device.replace(":", ""), size, workers=0)
        assert not found.failures
        tables.append(found.tables)
    for kind, table in tables[0].items():
        torch.testing.assert_close(*(torch.tensor(t[kind]["test_loss"]) for t in tables), rtol=0.05, atol=1e-2)
        assert len(table) > 0
