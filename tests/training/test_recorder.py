"""``Recorder``: the loop is the same to the bit, what is kept, and what is refused."""

from __future__ import annotations

import contextlib
import copy
import math
import re
from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.linear_rules import distance, problem, sgd
from whichmin.errors import InputError, ModelError, OptimizerError, ResultError


class Noisy(nn.Module):
    """BatchNorm and dropout, some layers in training mode and one not."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.fixed = nn.Sequential(nn.Dropout(0.5)).eval()
        self.out = nn.Linear(16, 2)

    def forward(self, x):
        return self.out(self.fixed(self.body(x)))


def noisy_task():
    draw = torch.Generator().manual_seed(0)
    X, X_test = (torch.randn(n, 4, generator=draw) for n in (20, 7))
    return wm.Task(X, X[:, :2] * X[:, 2:], X_test, X_test[:, :2] * X_test[:, 2:])


def steps_of(model, optimizer, task, count, *, criterion=nn.functional.mse_loss):
    for _ in range(count):
        optimizer.zero_grad()
        criterion(model(task.X), task.y).backward()
        optimizer.step()


def recorded(model, task, optimizer, count, **settings):
    with wm.Recorder(model, optimizer, task, **settings) as recorder:
        steps_of(model, optimizer, task, count)
    return recorder


def plain(model, task):
    return torch.optim.Adam(model.parameters(), lr=1e-2)


def groups(model, task):
    return torch.optim.SGD(
        [{"params": model.body.parameters(), "lr": 0.02}, {"params": model.out.parameters()}],
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        weight_decay=1e-3,
    )


def everything(model, task, make, recorder):
    """Mini-batches, two of them accumulated, gradients clipped, a scheduler, noise in the data, evaluation between."""
    torch.manual_seed(7)
    optimizer = make(model, task)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=60)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(task.X, task.y), batch_size=6, shuffle=True, drop_last=True
    )
    seen = []
    with recorder(model, optimizer):
        for _ in range(18):
            for i, (x, y) in enumerate(loader):
                loss = nn.functional.mse_loss(model(x + 0.1 * torch.randn_like(x)), y)
                seen.append(loss.item())
                loss.backward()
                if i % 2 == 1 or i == 2:
                    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=False)
                    scheduler.step()
            seen.append(model.training)
    return optimizer, seen


@pytest.mark.parametrize("make", [plain, groups], ids=["adam", "groups"])
def test_the_loop_is_the_same_to_the_bit(make):
    task = noisy_task()
    torch.manual_seed(1)
    model = Noisy()
    other = copy.deepcopy(model)
    made = {}

    def recorder(model, optimizer):
        made["it"] = wm.Recorder(model, optimizer, task)
        return made["it"]

    optimizer, seen = everything(model, task, make, recorder)
    states = [torch.get_rng_state()]
    expected, losses = everything(other, task, make, lambda *_: contextlib.nullcontext())
    states.append(torch.get_rng_state())
    assert seen == losses
    assert torch.equal(*states), "the random numbers are those that would have come"
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
        for key, value in optimizer.state[a].items():
            assert torch.equal(value, expected.state[b][key]), key
    for a, b in zip(model.modules(), other.modules(), strict=True):
        assert a.training == b.training
    assert set(optimizer.__dict__) == set(expected.__dict__)
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks
    assert made["it"].steps == 36
    assert len({s.lr for s in made["it"].snapshots}) > 5, "the scheduler shows"
    assert all(len(s.lr) == len(optimizer.param_groups) for s in made["it"].snapshots)


def test_what_is_kept_of_a_noisy_loop():
    task, model = noisy_task(), Noisy()
    before = copy.deepcopy(model)
    recorder = recorded(model, task, plain(model, task), 20)
    for name, value in before.state_dict().items():
        assert torch.equal(recorder.initial[name], value)
    for name, value in model.state_dict().items():
        assert torch.equal(recorder.final[name], value)
    for copied, original, at in ((recorder.initial_model, before, 0), (recorder.model, model, -1)):
        assert not any(m.training for m in copied.modules())
        original.eval()
        assert torch.equal(original(task.X), recorder.snapshots[at].train)
        assert torch.equal(original(task.X_test), recorder.snapshots[at].test)
        assert torch.equal(copied(task.X_test), recorder.snapshots[at].test)
    for snapshot in recorder.snapshots:
        assert snapshot.loss == pytest.approx(float(nn.functional.mse_loss(snapshot.train, task.y)))
        assert not snapshot.train.requires_grad


def test_the_snapshots_are_those_of_a_loop_by_hand():
    model, task = problem("over", 3)
    other = copy.deepcopy(model)
    recorder = recorded(model, task, torch.optim.SGD(model.parameters(), lr=0.1), 29)
    assert [s.step for s in recorder.snapshots] == [0, 1, 2, 4, 8, 16, 29]
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    made = 0
    for snapshot in recorder.snapshots:
        steps_of(other, optimizer, task, snapshot.step - made)
        made = snapshot.step
        assert torch.equal(other(task.X), snapshot.train)
        assert torch.equal(other(task.X_test), snapshot.test)
        assert snapshot.lr == (0.1,)


def test_as_a_run():
    model, task = problem("over")
    run = wm.train(model, task, sgd(0.1), until=None, steps=24)
    found = recorded(model, task, torch.optim.SGD(model.parameters(), lr=0.1), 24)
    as_run = found.run()
    assert as_run.steps == 24
    assert torch.equal(as_run.loss_steps, torch.tensor([0, 1, 2, 4, 8, 16, 24]))
    assert distance(as_run.losses, run.losses[as_run.loss_steps]) < 1e-13
    assert distance(as_run.test, run.test) < 1e-13
    assert (as_run.optimizer, as_run.learning_rate, as_run.until) == ("SGD", 0.1, None)
    assert distance(as_run.initial_model(task.X).detach(), run.initial_model(task.X).detach()) == 0
    assert distance(as_run.model(task.X).detach(), run.train) < 1e-13
    assert as_run.reason == found.reason == f"the loop ended after 24 steps, at a training MSE of {run.losses[-1]:.3g}."


@pytest.mark.parametrize(
    ("most", "kept"),
    [
        (3, [0, 128, 400]),
        (5, [0, 8, 128, 400]),
        (8, [0, 2, 8, 32, 128, 256, 400]),
        (13, [0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 400]),
    ],
)
def test_the_number_of_snapshots_is_bounded(most, kept):
    """Every other one is dropped where there would be more; one place is kept for the end."""
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    recorder = wm.Recorder(model, optimizer, task, snapshots=most)
    with recorder:
        for step in range(1, 401):
            steps_of(model, optimizer, task, 1)
            assert len(recorder.snapshots) <= most - 1
            assert recorder.steps == step
    assert [s.step for s in recorder.snapshots] == kept
    assert len(kept) <= most


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_a_grad_scaler_skips_do_not_count(fused):
    torch.manual_seed(0)
    model, task = nn.Linear(4, 2), noisy_task()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with wm.Recorder(model, optimizer, task) as recorder:
        for step in range(10):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(task.X), task.y)
            scaler.scale(loss * (math.inf if step in (1, 4, 5) else 1.0)).backward()
            scaler.step(optimizer)
            scaler.update()
    assert recorder.steps == 7
    assert int(optimizer.state[model.weight]["step"]) == 7
    steps = [s.step for s in recorder.snapshots]
    assert steps == sorted(set(steps))
    assert steps[-1] == 7


def test_autocast_grad_mode_and_inference_mode_stay():
    model, task = problem("over", dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recorder = wm.Recorder(model, optimizer, task).__enter__()
        steps_of(model, optimizer, task, 2)
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_grad_enabled()
        assert model(task.X).dtype == torch.bfloat16
    with torch.inference_mode():
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        assert torch.is_inference_mode_enabled()
    recorder.__exit__(None, None, None)
    last = recorder.snapshots[-1]
    assert last.train.dtype == torch.float32
    assert not any(s.train.is_inference() for s in recorder.snapshots)
    assert torch.equal(last.train, model(task.X))


def test_a_closure():
    model, task = problem("over")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(task.X), task.y)
        loss.backward()
        return loss

    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(3):
            optimizer.step(closure)
    assert recorder.steps == 3
    assert recorder.metric is None


def test_the_metric_is_the_optimizers_last():
    model, task = problem("over")
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    found = recorded(model, task, optimizer, 9).metric
    assert found is not None
    for name, p in model.named_parameters():
        expected = 1 / (optimizer.state[p]["sum"].sqrt() + 1e-10)
        assert torch.equal(found[name], expected)
    assert recorded(model, task, torch.optim.SGD(model.parameters(), lr=0.1), 2).metric is None


def test_frozen_parameters_and_others_beside_the_model():
    model, task = problem("over")
    model.layers[0].weight.requires_grad_(False)
    scale = nn.Parameter(torch.ones(()))
    trained = [p for p in model.parameters() if p.requires_grad]
    recorder = recorded(model, task, torch.optim.SGD([*trained, scale], lr=0.1), 3)
    assert torch.equal(recorder.final["layers.0.weight"], recorder.initial["layers.0.weight"])
    assert recorder.steps == 3


def test_without_test_inputs():
    model, task = problem("over")
    recorder = recorded(model, wm.Task(task.X, task.y), torch.optim.SGD(model.parameters(), lr=0.1), 3)
    assert all(s.test is None for s in recorder.snapshots)
    assert recorder.run().test is None


def test_a_compiled_model_is_looked_at_as_it_is():
    model, task = problem("over")
    wrapped = torch.compile(model, backend="eager")
    with wm.Recorder(wrapped, optimizer := torch.optim.SGD(wrapped.parameters(), lr=0.1), task) as recorder:
        steps_of(model, optimizer, task, 3)
    assert set(recorder.final) == set(model.state_dict())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyboardInterrupt(), r"^interrupted after 5 steps, at a training MSE of \S+\.$"),
        (RuntimeError("out of memory\nand more"), r"^left by RuntimeError after 5 steps, .*: out of memory$"),
        (StopIteration(), r"^left by StopIteration after 5 steps, .*: no message$"),
    ],
)
def test_a_loop_that_breaks_off(error, reason):
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = wm.Recorder(model, optimizer, task)

    def loop():
        with recorder:
            steps_of(model, optimizer, task, 5)
            raise error

    with pytest.raises(type(error)) as raised:
        loop()
    assert raised.value is error
    assert re.search(reason, recorder.reason)
    assert recorder.steps == 5
    assert torch.equal(recorder.run().train, model(task.X))
    assert recorder.run().interrupted == isinstance(error, KeyboardInterrupt)
    assert not optimizer._optimizer_step_post_hooks


def test_a_loop_that_breaks_off_within_a_step():
    model, task = problem("over")

    class Half(torch.optim.SGD):
        tired = False

        def step(self, closure=None):
            super().step(closure)
            if self.tired:
                raise KeyboardInterrupt

    optimizer = Half(model.parameters(), lr=0.1)
    recorder = wm.Recorder(model, optimizer, task)

    def loop():
        with recorder:
            steps_of(model, optimizer, task, 2)
            optimizer.tired = True
            steps_of(model, optimizer, task, 1)

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert "interrupted after 2 steps" in recorder.reason
    assert "in the middle of a step" in recorder.reason
    assert torch.equal(recorder.run().train, model(task.X)), "the outputs are those of the parameters as they are"


def test_a_step_within_a_step_is_one():
    model, task = problem("over")

    class Outer(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)

    torch.optim.SGD(copy.deepcopy(model).parameters())  # from now on the hooks run in the base's step, too
    assert recorded(model, task, Outer(model.parameters(), lr=0.1), 7).steps == 7


def test_a_loop_that_goes_on_after_an_exception_within_a_step():
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    tired = [True, False, True, True, False, False]

    def closure():
        if tired.pop():
            raise MemoryError
        return nn.functional.mse_loss(model(task.X), task.y)

    with wm.Recorder(model, optimizer, task) as recorder:
        while tired:
            with contextlib.suppress(MemoryError):
                optimizer.step(closure)
    assert recorder.steps == 3
    assert [s.step for s in recorder.snapshots] == [0, 1, 2, 3]


def test_a_loop_that_breaks_off_with_a_model_that_is_gone():
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = wm.Recorder(model, optimizer, task)

    def loop():
        with recorder:
            steps_of(model, optimizer, task, 2)
            model.layers[0].weight = nn.Parameter(torch.zeros(12, 4, dtype=torch.float64))
            raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        loop()
    assert [s.step for s in recorder.snapshots] == [0, 1, 2]
    assert "The end could not be recorded: ModelError" in recorder.reason
    with pytest.raises(ResultError, match="does not know where the loop ended: left by ValueError after 2 steps"):
        _ = recorder.final


def test_divergence_does_not_stop_the_loop():
    model, task = problem("over")
    recorder = recorded(model, task, torch.optim.SGD(model.parameters(), lr=1e3), 400)
    assert recorder.steps == 400
    assert not math.isfinite(recorder.snapshots[-1].loss)


def test_saved_and_loaded(tmp_path):
    model, task = problem("over", 3)
    recorder = recorded(model, task, torch.optim.Adam(model.parameters(), lr=1e-2), 9)
    recorder.save(tmp_path / "recorder")
    loaded = wm.Recorder.load(tmp_path / "recorder", wm.networks.MLP((4, 12, 3), bias=True, dtype=torch.float64))
    for name in ("steps", "reason"):
        assert getattr(loaded, name) == getattr(recorder, name)
    for name in ("initial", "final", "metric"):
        before, after = getattr(recorder, name), getattr(loaded, name)
        assert before.keys() == after.keys()
        assert all(torch.equal(v, after[k]) for k, v in before.items())
    for a, b in zip(recorder.snapshots, loaded.snapshots, strict=True):
        assert (a.step, a.loss, a.lr) == (b.step, b.loss, b.lr)
        assert torch.equal(a.train, b.train)
        assert torch.equal(a.test, b.test)
    assert loaded.run().optimizer == "Adam"
    assert loaded.run().seconds == recorder.run().seconds
    bare = wm.Recorder.load(tmp_path / "recorder")
    with pytest.raises(ResultError, match=r"holds no network: Recorder.load\(path, model\)"):
        _ = bare.model
    with pytest.raises(ResultError, match="holds a 'recorder'; expected a 'run'"):
        wm.Run.load(tmp_path / "recorder")


def test_saved_without_a_metric_or_test_inputs(tmp_path):
    model, task = problem("over")
    recorder = recorded(model, wm.Task(task.X, task.y), torch.optim.SGD(model.parameters(), lr=0.1), 3)
    recorder.save(tmp_path / "recorder")
    loaded = wm.Recorder.load(tmp_path / "recorder")
    assert loaded.metric is None
    assert all(s.test is None for s in loaded.snapshots)
    assert loaded.task.X_test is None


def test_before_within_and_twice():
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = wm.Recorder(model, optimizer, task)
    for name in ("steps", "snapshots", "initial", "final", "metric", "reason", "model", "initial_model"):
        with pytest.raises(ResultError, match="was not entered: put the training loop into `with recorder:`"):
            getattr(recorder, name)
    with pytest.raises(ResultError, match="was not entered"):
        recorder.run()
    with recorder:
        steps_of(model, optimizer, task, 1)
        assert recorder.steps == 1
        for name in ("final", "metric", "reason", "model"):
            with pytest.raises(ResultError, match="still recording: leave its with block first"):
                getattr(recorder, name)
        with pytest.raises(InputError, match="has been entered before: make a new one"):
            recorder.__enter__()
    with pytest.raises(InputError, match="has been entered before: make a new one"), recorder:
        pass
    assert recorder.steps == 1


def test_no_step(tmp_path):
    model, task = problem("over")
    other = torch.optim.SGD(model.parameters(), lr=0.1)
    with wm.Recorder(model, torch.optim.Adam(model.parameters()), task) as recorder:
        steps_of(model, other, task, 3)
    assert recorder.steps == 0
    assert recorder.metric is None
    assert recorder.reason == "the loop ended without a step."
    with pytest.raises(ResultError, match="no step was made: nothing in the with block stepped this Adam"):
        recorder.run()


def test_arguments():
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    with pytest.raises(OptimizerError, match=r"got a factory \(partial\).*expects the built one that the loop steps"):
        wm.Recorder(model, partial(torch.optim.SGD, lr=0.1), task)
    with pytest.raises(OptimizerError, match=r"got a StepLR for the optimizer"):
        wm.Recorder(model, scheduler, task)
    with pytest.raises(ModelError, match=r"got a function; expected the torch.nn.Module"):
        wm.Recorder(sgd, optimizer, task)
    with pytest.raises(InputError, match=r"got a tuple for the task; expected whichmin.Task"):
        wm.Recorder(model, optimizer, (task.X, task.y))
    for snapshots in (2, 0, 8.0, True):
        with pytest.raises(InputError, match=rf"snapshots is {snapshots}; expected a whole number of at least 3"):
            wm.Recorder(model, optimizer, task, snapshots=snapshots)


def test_an_optimizer_of_another_model():
    model, task = problem("over")
    optimizer = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1)
    with pytest.raises(
        OptimizerError, match="this SGD steps another model: it holds no trainable parameter of the MLP"
    ):
        wm.Recorder(model, optimizer, task)
    part = torch.optim.SGD(model.layers[0].parameters(), lr=0.1)
    with pytest.raises(OptimizerError, match=r"steps 2 of the model's 4 trainable parameters; missing: layers\.1"):
        wm.Recorder(model, part, task)


def test_a_model_that_does_not_fit_the_task():
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrong = wm.Task(task.X, task.y.repeat(1, 3))
    with (
        pytest.raises(ModelError, match="1 output per row; expected 3"),
        wm.Recorder(model, optimizer, wrong),
    ):
        pass
    wide = wm.Task(task.X.repeat(1, 2), task.y)
    with pytest.raises(ModelError, match="the model fails on inputs of shape"), wm.Recorder(model, optimizer, wide):
        pass
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.BatchNorm1d(6, track_running_stats=False), "normalizes with the statistics of the batch"),
        (
            type("Dice", (nn.Module,), {"forward": lambda _, x: nn.functional.dropout(x, 0.5)})(),
            "draws random numbers",
        ),
    ],
)
def test_a_model_that_is_no_function_of_rows_even_in_evaluation_mode(layer, message):
    task = noisy_task()
    model = nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = torch.get_rng_state()
    with pytest.raises(ModelError, match=message), wm.Recorder(model, optimizer, task):
        pass
    assert torch.equal(state, torch.get_rng_state())
    assert model.training


def test_parameters_that_are_replaced():
    model, task = problem("over")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    original = model.layers[1].weight

    def replace(layer, name):
        setattr(layer, name, nn.Parameter(getattr(layer, name).detach().clone()))

    with wm.Recorder(model, optimizer, task) as recorder:
        steps_of(model, optimizer, task, 4)
        replace(model.layers[1], "weight")
        steps_of(model, optimizer, task, 3)
        with pytest.raises(ModelError, match=r"replaced while .*: layers\.1\.weight are"):  # at the snapshot of step 8
            steps_of(model, optimizer, task, 1)
        model.layers[1].weight = original
    recorder = wm.Recorder(model, optimizer, task)
    with pytest.raises(ModelError, match=r"replaced while .*: layers\.0\.bias are"), recorder:  # at the end
        replace(model.layers[0], "bias")
    assert "The end could not be recorded" in recorder.reason


def test_parameters_that_are_unfrozen():
    model, task = problem("over")
    model.layers[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        pytest.raises(ModelError, match=r"became trainable while .*: layers\.0\.weight, layers\.0\.bias"),
        wm.Recorder(model, optimizer, task),
    ):
        model.layers[0].requires_grad_(True)


def test_of_many_rows_snapshots_on_the_way_look_at_some(monkeypatch):
    monkeypatch.setattr("whichmin.training.recorder.ROWS", 6)
    g = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(20, 3, generator=g), torch.randn(9, 3, generator=g)
    task = wm.Task(X, X[:, :1], X_test)
    model = wm.networks.MLP((3, 16, 1), seed=0)
    recorder = recorded(model, task, torch.optim.SGD(model.parameters(), lr=0.1), 9)
    first, *between, last = recorder.snapshots
    assert [s.step for s in between] == [1, 2, 4, 8]
    assert first.rows is None
    assert last.rows is None
    assert (len(last.train), len(last.test)) == (20, 9)
    again = wm.networks.MLP((3, 16, 1), seed=0)
    optimizer = torch.optim.SGD(again.parameters(), lr=0.1)
    for step in range(9):
        for s in between:
            if s.step == step:
                assert s.rows.tolist() == [0, 3, 7, 11, 15, 19]
                assert s.test_rows.tolist() == [0, 1, 3, 4, 6, 8]
                with torch.no_grad():
                    assert torch.allclose(s.train, again(X[s.rows]), atol=1e-6)
                    assert torch.allclose(s.test, again(X_test[s.test_rows]), atol=1e-6)
                assert s.loss == pytest.approx(float((s.train - task.y[s.rows]).square().mean()))
        steps_of(again, optimizer, task, 1)
    assert recorder.notes == (
        "snapshots between the first and the last look at 6 of 20 training rows and 6 of 9 test rows.",
    )
    assert "6 of 20 training rows" in repr(recorder)
    assert wm.explain(recorder).terms


def test_some_rows_of_a_sum_stand_for_all(monkeypatch):
    monkeypatch.setattr("whichmin.training.recorder.ROWS", 10)
    X = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    loss = nn.CrossEntropyLoss(reduction="sum")
    task = wm.Task(torch.cat([X, X]), torch.zeros(40, dtype=torch.int64), loss=loss, classes=(0, 1))
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with wm.Recorder(model, optimizer, task) as recorder:
        steps_of(model, optimizer, task, 2, criterion=loss)
    assert recorder.snapshots[1].rows is not None
    assert recorder.snapshots[1].loss == pytest.approx(recorder.snapshots[0].loss, rel=0.5)
