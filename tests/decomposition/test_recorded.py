"""``explain_recorder``: the terms by hand, against ``explain`` of a run, and where theory says what they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import Dense, distance, flat, mlp_problem, problem, rms, sgd
from whichmin.decomposition.recorded import explain_recorder
from whichmin.errors import InputError, OptimizerError, ResultError

NAMES = ["interpolant", "initialization", "geometry", "unconverged", "curvature", "trajectory"]


def recorded(model, task, optimizer, steps, batch=None):
    """Trained in place, in full batches or in random ones."""
    draw = torch.Generator().manual_seed(0)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(steps):
            rows = slice(None) if batch is None else torch.randperm(task.n, generator=draw)[:batch]
            optimizer.zero_grad()
            nn.functional.mse_loss(model(task.X[rows]), task.y[rows]).backward()
            optimizer.step()
    return recorder


def sgd_of(model, lr=0.1, **settings):
    return torch.optim.SGD(model.parameters(), lr=lr, **settings)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("adaptive", [True, False])
def test_the_terms_by_hand(outputs, adaptive):
    model, task = problem("over", outputs)
    dense = Dense.of(model, task)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1) if adaptive else sgd_of(model)
    recorder = recorded(model, task, optimizer, 25, batch=4)
    found = explain_recorder(recorder)
    D = torch.ones_like(dense.theta) if recorder.metric is None else flat(recorder.metric, model)
    A, A_D = (dense.J_test * d @ dense.J.T @ torch.linalg.inv(dense.J * d @ dense.J.T) for d in (1.0, D))
    f_T, f_T_test = (f(at).detach().reshape(-1) for f, at in ((model, task.X), (model, task.X_test)))
    moved = dense.J_test @ (flat(recorder.final, model) - dense.theta)
    expected = {
        "interpolant": A @ dense.y,
        "initialization": dense.f0_test - A @ dense.f0,
        "geometry": (A_D - A) @ (f_T - dense.f0),
        "unconverged": A @ (f_T - dense.y),
        "curvature": f_T_test - dense.f0_test - moved,
        "trajectory": moved - A_D @ (f_T - dense.f0),
    }
    assert list(found.terms) == (NAMES if adaptive else [n for n in NAMES if n != "geometry"])
    for name, term in found.terms.items():
        assert term.shape == (task.n_test, outputs)
        assert distance(term, expected[name]) < 1e-9, name
        assert float(term.abs().max()) > 1e-4, name
    assert distance(found.total, model(task.X_test).detach()) < 1e-12


@pytest.mark.parametrize("kind", ["over", "under"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-2),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-2),
        lambda p: torch.optim.Rprop(p, lr=1e-2),
    ],
    ids=["adam", "decay", "unknown"],
)
def test_they_add_up_to_the_network(kind, dtype, make):
    model, task = problem(kind, 3, dtype=dtype)
    found = explain_recorder(recorded(model, task, make(model.parameters()), 40, batch=5))
    scale = max(1.0, *(float(t.abs().max()) for t in found.terms.values()))
    assert distance(found.total, model(task.X_test).detach()) < 1e-12 * scale
    assert found.total.dtype == torch.float64
    assert torch.equal(found.run.test, model(task.X_test))


def test_gradient_descent_on_a_lazy_network_has_no_trajectory():
    apart = {}
    for width in (64, 4096):
        model, task = mlp_problem((4, width), 8)
        run = wm.train(model, task, sgd(0.05), until=None, steps=200)
        expected = wm.explain(run).terms
        found = explain_recorder(recorded(model, task, sgd_of(model, 0.05), 200))
        spread = float(run.test.std())
        for name in ("interpolant", "initialization", "curvature"):
            assert distance(found.terms[name], expected[name]) < 1e-8 * spread, name
        apart[width] = (
            rms(found.terms["trajectory"], torch.zeros(5, 1)) / spread,
            rms(found.terms["unconverged"], expected["unconverged"]) / spread,
        )
        assert float(expected["unconverged"].abs().max()) > 0.01
    for narrow, wide in zip(apart[64], apart[4096], strict=True):
        assert wide < 5e-3
        assert wide < 0.2 * narrow, "it falls with the width"


def linear(n=4, size=9, seed=0):
    torch.manual_seed(seed)
    model = nn.Linear(size, 1, dtype=torch.float64)
    X, X_test = torch.randn(n, size, dtype=torch.float64), torch.randn(6, size, dtype=torch.float64)
    return model, wm.Task(X, torch.randn(n, 1, dtype=torch.float64), X_test)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.8}, {"momentum": 0.8, "nesterov": True}])
def test_on_a_linear_network_only_the_metric_leads_elsewhere(batch, settings):
    model, task = linear()
    found = explain_recorder(recorded(model, task, sgd_of(model, 0.02, **settings), 30, batch))
    for name in ("curvature", "trajectory"):
        assert float(found.terms[name].abs().max()) < 1e-12, name
    assert float(found.terms["unconverged"].abs().max()) > 1e-3


def test_one_point_and_adagrad():
    """f_∞(x') = f₀(x') + J(x') sign J(x₁) / ‖J(x₁)‖₁ · (y₁ − f₀(x₁)): all of it geometry."""
    model, task = linear(n=1)
    dense = Dense.of(model, task)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.3, eps=1e-16)
    found = explain_recorder(recorded(model, task, optimizer, 200))
    J = dense.J[0]
    there = dense.f0_test - dense.J_test @ J.sign() / J.abs().sum() * dense.r0
    assert distance(found.total, there) < 1e-9
    assert float(found.terms["trajectory"].abs().max()) < 1e-9
    assert float(found.terms["geometry"].abs().max()) > 0.1
    plain = found.terms["interpolant"] + found.terms["initialization"]
    assert distance(plain, dense.outputs(dense.limit())[1]) < 1e-10


def test_weight_decay_is_part_of_the_trajectory():
    model, task = linear()
    found = explain_recorder(recorded(model, task, sgd_of(model, 0.02, weight_decay=0.1), 100))
    assert float(found.terms["trajectory"].abs().max()) > 1e-2


def test_on_the_training_points():
    model, task = problem("over", 3)
    same = wm.Task(task.X, task.y, task.X)
    found = explain_recorder(recorded(model, same, torch.optim.Adam(model.parameters(), lr=1e-2), 30))
    assert distance(found.terms["interpolant"], task.y) < 1e-9
    for name in ("initialization", "geometry"):
        assert float(found.terms[name].abs().max()) < 1e-7
    assert distance(found.terms["unconverged"], model(task.X).detach() - task.y) < 1e-9
    assert distance(found.terms["trajectory"], -found.terms["curvature"]) < 1e-7


class Normalized(nn.Module):
    """With a normalization, whose statistics a forward pass in training mode moves."""

    def __init__(self, momentum=0.1):
        super().__init__()
        torch.manual_seed(0)
        body = [nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=momentum), nn.Tanh(), nn.Linear(8, 1)]
        self.body = nn.Sequential(*body).double()

    def forward(self, x):
        return self.body(x)


def normalized_task():
    draw = torch.Generator().manual_seed(1)
    X, X_test = (torch.randn(n, 4, dtype=torch.float64, generator=draw) + 1 for n in (6, 5))
    return wm.Task(X, X[:, 0], X_test, X_test[:, 0])


def test_what_running_statistics_did_is_a_term_of_its_own(tmp_path):
    model, task = Normalized(), normalized_task()
    found = explain_recorder(recorded(model, task, sgd_of(model, 1e-9), 30))
    away = model.eval()(task.X_test).detach() - found.run.initial_model(task.X_test).detach()
    assert float(away.abs().max()) > 0.1
    assert list(found.terms)[-1] == "statistics"
    assert distance(found.terms["statistics"], away) < 1e-6
    assert float(found.terms["curvature"].abs().max()) < 1e-6
    assert distance(found.total, model(task.X_test).detach()) < 1e-12
    (note,) = [note for note in found.notes if "buffers of the network moved" in note]
    assert "body.1.running_mean, body.1.running_var" in note
    assert "0 and 1, which no data had set" in note
    assert note in found.run.notes
    found.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("buffers of the network moved") == 1
    assert "what buffers that moved, such as the statistics of a normalization" in page


def test_the_statistics_are_those_of_the_trained_parameters():
    model, task = Normalized(), normalized_task()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = explain_recorder(recorded(model, task, torch.optim.Adam(model.parameters(), lr=0.05), 30))
    test = model.eval()(task.X_test).detach()
    buffers = {k: before[k] for k in before if "running" in k}
    still = torch.func.functional_call(model, buffers, (task.X_test,)).detach()
    assert distance(found.terms["statistics"], test - still) < 1e-12
    assert float(found.terms["statistics"].abs().max()) > 0.1
    assert float(found.terms["curvature"].abs().max()) > 0.1
    assert distance(found.total, test) < 1e-12


def test_statistics_that_data_had_set(tmp_path):
    task, model = normalized_task(), Normalized(momentum=None)
    model(task.X)
    recorder = recorded(model, task, sgd_of(model, 1e-2), 5)
    (note,) = recorder.notes
    assert "buffers of the network moved" in note
    assert "no data had set" not in note
    assert note[:60] in repr(recorder)
    recorder.save(tmp_path / "recording")
    assert wm.Recorder.load(tmp_path / "recording", model).notes == (note,)
    frozen = Normalized().eval()
    quiet = explain_recorder(recorded(frozen, task, sgd_of(frozen), 5))
    assert "statistics" not in quiet.terms
    assert not quiet.run.notes


class Averaged(nn.Module):
    """A buffer that each call in training mode moves, and that shifts the outputs; the gradients do not feel it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)).double()
        self.register_buffer("calls", torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.body(x) * (1 if self.training else 1 + 1e-4 * self.calls)


def test_a_replayed_loop_has_them_too():
    model, task = Averaged(), normalized_task()
    recorder = recorded(model, task, sgd_of(model, 0.01), 10)
    found = wm.explain(recorder, loader=[(task.X, task.y)])
    body = model.body(task.X_test).detach()
    assert distance(found.terms["statistics"], 0.001 * body) < 1e-9
    assert distance(found.total, model.eval()(task.X_test).detach()) < 1e-12


def test_what_comes_along(tmp_path):
    model, task = problem("over")
    found = explain_recorder(recorded(model, task, torch.optim.Adam(model.parameters(), lr=1e-2), 30))
    limit = found.terms["interpolant"] + found.terms["initialization"]
    assert distance(found.prediction.test, limit) < 1e-9
    assert found.prediction.steps == float("inf")
    assert any("recorded in a loop of one's own" in note for note in found.prediction.notes)
    assert found.run.optimizer == "Adam"
    assert list(found.test_error()["term"]) == list(found.terms)
    found.report(tmp_path / "report.html")
    assert "geometry" in (tmp_path / "report.html").read_text(encoding="utf-8")
    found.save(tmp_path / "explanation")
    assert distance(wm.Explanation.load(tmp_path / "explanation").total, found.total) == 0


@pytest.mark.parametrize("loss", [nn.L1Loss(), nn.MultiMarginLoss(), nn.NLLLoss()])
def test_losses_without_curvature_have_no_best_rate(loss):
    model, task = problem("over", 3)
    y = task.y if isinstance(loss, nn.L1Loss) else torch.arange(task.n) % 3
    task, optimizer = wm.Task(task.X, y, task.X_test, loss=loss), sgd_of(model, 0.01)
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(6):
            optimizer.zero_grad()
            loss(model(task.X), task.y).backward()
            optimizer.step()
    found = wm.explain(recorder)
    assert distance(found.total, model(task.X_test).detach()) < 1e-12
    assert (found.prediction.steps, found.prediction.learning_rate) == (6, 0.01)
    assert any("at the loop's first rate" in note for note in found.prediction.notes)
    with pytest.raises(OptimizerError, match="has none at outputs of zero"):
        wm.predict(model, task, sgd("best"), steps=3)


def test_contradicting_targets():
    model, task = problem("over")
    twice = wm.Task(torch.cat([task.X, task.X[:1]]), torch.cat([task.y, task.y[:1] + 1]), task.X_test)
    found = explain_recorder(recorded(model, twice, sgd_of(model), 20))
    assert distance(found.total, model(task.X_test).detach()) < 1e-10
    assert found.prediction.steps == 20


def test_a_metric_that_is_none():
    model, task = problem("over")
    recorder = recorded(model, task, torch.optim.Adagrad(model.parameters(), lr=0.1), 5)
    recorder._metric["layers.0.bias"][0] = float("inf")
    found = explain_recorder(recorder)
    assert "geometry" not in found.terms
    assert any("not positive and finite everywhere: no geometry term" in note for note in found.prediction.notes)
    assert distance(found.total, recorder.run().test) < 1e-12


def test_a_metric_that_hides_directions():
    model, task = linear()
    recorder = recorded(model, task, torch.optim.Adagrad(model.parameters(), lr=0.1), 5)
    recorder._metric["weight"][:, 1:] = 1e-30
    recorder._metric["bias"][:] = 1e-30
    found = explain_recorder(recorder)
    assert any("the kernel has rank 1 of 4" in note for note in found.prediction.notes)
    assert distance(found.total, recorder.run().test) < 1e-12


def test_after_an_exception():
    model, task = problem("over")
    optimizer = sgd_of(model)
    recorder = wm.Recorder(model, optimizer, task)

    def loop():
        with recorder:
            for _ in range(3):
                optimizer.zero_grad()
                nn.functional.mse_loss(model(task.X), task.y).backward()
                optimizer.step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    found = explain_recorder(recorder)
    assert found.run.reason.startswith("interrupted after 3 steps")
    assert distance(found.total, model(task.X_test).detach()) < 1e-12


def test_loaded_with_a_model(tmp_path):
    model, task = problem("over", 3)
    recorder = recorded(model, task, torch.optim.Adam(model.parameters(), lr=1e-2), 9)
    recorder.save(tmp_path / "recorder")
    expected = explain_recorder(recorder)
    found = explain_recorder(wm.Recorder.load(tmp_path / "recorder", model))
    for name, term in expected.terms.items():
        assert distance(found.terms[name], term) < 1e-10, name
    with pytest.raises(ResultError, match="a loaded recorder holds no network"):
        explain_recorder(wm.Recorder.load(tmp_path / "recorder"))


def test_refusals():
    model, task = problem("over")
    bare = wm.Task(task.X, task.y)
    with pytest.raises(InputError, match="about test outputs: pass a Task with X_test"):
        explain_recorder(recorded(model, bare, sgd_of(model), 3))
    with pytest.raises(ResultError, match="no step was made"):
        explain_recorder(recorded(model, task, sgd_of(model), 0))
    with pytest.raises(ResultError, match="not finite, there is nothing to explain: the loop ended after 500 steps"):
        explain_recorder(recorded(model, task, sgd_of(model, 1e4), 500))
    with pytest.raises(ResultError, match="was not entered"):
        explain_recorder(wm.Recorder(model, sgd_of(model), task))
