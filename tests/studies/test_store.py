"""The store: an answer is read back for the same question, and only for it."""

from __future__ import annotations

import importlib
import json
import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR

import whichmin as wm
from oracles.comparisons import SGD, SLOW, network, problem
from whichmin.errors import OutputError
from whichmin.jobs import store
from whichmin.jobs.store import Question, Store
from whichmin.recipe.describe import Unknown
from whichmin.storage import load_folder, save_folder
from whichmin.studies import answer, subject
from whichmin.studies.subject import Subject, signature

PLAIN = wm.Recipe(SLOW)
SETTINGS = {"until": 1e-2, "steps": None, "tol": 1e-2}


def question(kind="predicted", recipe=PLAIN, model=None, task=None, **settings):
    subject = Subject.of(network(0) if model is None else model, problem() if task is None else task)
    assert isinstance(subject, Subject)
    asked = subject.asked(kind, recipe, SETTINGS | settings)
    assert isinstance(asked, Question)
    return asked


def changed(name=None):
    """A task of more rows than a network is probed at, the last of which may be changed."""
    task = problem()
    parts = {part: getattr(task, part).repeat(3, 1) for part in ("X", "y", "X_test", "y_test")}
    if name is not None:
        parts[name][-1, 0] += 1e-6
    return wm.Task(**parts)


class Plain(nn.Module):
    """Equal parameters and an equal printed form, whatever it computes."""

    def __init__(self, function, zero=False):
        super().__init__()
        self.first, self.last = (nn.Linear(n, m, dtype=torch.float64) for n, m in ((6, 64), (64, 1)))
        self.function = function
        with torch.no_grad():
            self.first.weight.copy_(torch.linspace(-1, 1, 6 * 64).reshape(64, 6))
            self.first.bias.zero_()
            self.last.weight.copy_(torch.zeros(1, 64) if zero else torch.linspace(-1, 1, 64))
            self.last.bias.zero_()

    def forward(self, x):
        return self.last(self.function(self.first(x)))


def test_the_same_question_has_one_key():
    assert question().key == question().key
    assert question().key == question(recipe=wm.Recipe(lambda p: torch.optim.SGD(p, lr=0.05))).key
    assert question().key == question(recipe=wm.Recipe(SLOW, seed=3)).key, "without batches there is no order"


def test_every_part_of_a_question_counts():
    bare = problem()
    others = [
        question(),
        question("trained"),
        question(until=2e-2),
        question(steps=7),
        question(tol=2e-2),
        question(recipe=wm.Recipe(SGD)),
        question(recipe=wm.Recipe(SLOW, 3)),
        question(recipe=wm.Recipe(SLOW, 3, 1)),
        question(recipe=wm.Recipe(SLOW, scheduler=partial(StepLR, step_size=10))),
        question(model=network(1)),
        question(model=network(0, width=32)),
        *(question(task=changed(name)) for name in (None, "X", "y", "X_test", "y_test")),
        question(task=wm.Task(bare.X, bare.y, bare.X_test)),
    ]
    assert len({asked.key for asked in others}) == len(others)


def test_the_versions_count(monkeypatch):
    before = question().key
    monkeypatch.setattr(store, "__version__", "0.0.0")
    assert question().key != before
    monkeypatch.undo()
    monkeypatch.setattr(torch, "__version__", "1.0.0")
    assert question().key != before


@pytest.mark.parametrize("zero", [False, True], ids=["drawn", "a last layer of zeros"])
def test_networks_of_equal_parameters_are_told_apart_by_what_they_compute(zero):
    relu, tanh = Plain(torch.relu, zero), Plain(torch.tanh, zero)
    assert repr(relu) == repr(tanh)
    assert question(model=relu).key == question(model=Plain(torch.relu, zero)).key
    assert question(model=relu).key != question(model=tanh).key


def test_buffers_and_the_printed_form_count():
    """Also where they do not change what is computed now."""

    def key(buffer: float = 0.0, dropped: float = 0.1) -> str:
        model = nn.Sequential(network(0), nn.Dropout(dropped)).eval()
        model.register_buffer("seen", torch.tensor(buffer))
        return question(model=model).key

    assert key() == key()
    assert len({key(), key(buffer=1.0), key(dropped=0.2)}) == 3


@pytest.mark.parametrize("zero", [False, True], ids=["drawn", "a last layer of zeros"])
def test_gradients_tell_networks_of_equal_outputs_apart(zero):
    functions = (lambda h: h, torch.Tensor.detach, lambda h: 0.5 * h + (0.5 * h).detach())
    assert len({signature(Plain(function, zero), problem()) for function in functions}) == 3


def test_a_signature_changes_nothing(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "set_num_threads", lambda n, set_to=torch.set_num_threads: used.append(n) or set_to(n))
    model, state, used = network(0), torch.get_rng_state(), []
    before = {name: p.clone() for name, p in model.state_dict().items()}
    signature(model, problem())
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert used == [1, threads], "one thread, and as many as before afterwards"
    assert torch.equal(torch.get_rng_state(), state)


def test_a_network_that_fails_is_unknown():
    subject = Subject.of(wm.networks.MLP((5, 8, 1)), problem())
    assert isinstance(subject, Unknown)
    assert "the network cannot be evaluated: the model fails on inputs" in subject.reason


def test_written_and_read(tmp_path):
    kept, asked = Store.open(tmp_path), question()
    assert kept.read(asked, lambda *parts: parts) is None
    kept.write(asked, {"number": 3}, {"values": torch.arange(4)})
    place, config, arrays = kept.read(asked, lambda *parts: parts)
    assert place == tmp_path / "runs" / f"predicted-{asked.key}"
    assert config["number"] == 3
    assert torch.equal(arrays["values"], torch.arange(4))
    assert kept.read(question(tol=1), lambda *parts: parts) is None


def test_another_question_in_the_same_place_is_not_read(tmp_path):
    kept, asked = Store.open(tmp_path), question()
    kept.write(asked, {}, {})
    file = kept.place(asked) / "config.json"
    config = json.loads(file.read_text())
    config["question"]["settings"]["tol"] = 5.0
    file.write_text(json.dumps(config))
    assert kept.read(asked, lambda *parts: parts) is None


@pytest.mark.parametrize("damage", ["config.json", "arrays.safetensors"])
def test_what_is_damaged_is_not_read(tmp_path, damage):
    kept, asked = Store.open(tmp_path), question()
    kept.write(asked, {}, {"values": torch.arange(4)})
    (kept.place(asked) / damage).write_text("half")
    assert kept.read(asked, lambda *parts: parts) is None


def test_what_lacks_a_part_is_not_read(tmp_path):
    kept, asked = Store.open(tmp_path), question()
    kept.write(asked, {}, {})
    assert kept.read(asked, lambda place, config, arrays: arrays["test"]) is None


def test_an_answer_that_was_being_replaced_is_read_with_its_parts(tmp_path):
    kept, asked = Store.open(tmp_path), question()
    kept.write(asked, {}, {}, {"inner": lambda path: save_folder(path, {"kind": "part"}, {"a": torch.ones(2)})})
    place = kept.place(asked)
    place.rename(
        place.with_name(f".{place.name}.previous")
    )  # as a process leaves it that is killed between the renames
    read = kept.read(asked, lambda folder, config, arrays: load_folder(folder / "inner", "part")[1]["a"])
    assert torch.equal(read, torch.ones(2))


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write to .*file: "):
        Store.open(tmp_path / "file")


@pytest.fixture
def asked(monkeypatch):
    """The verbs that were really called, with their recipes."""
    calls = []

    def counted(name, verb):
        def call(model, task, recipe, **options):
            calls.append((name, recipe))
            return verb(model, task, recipe, **options)

        monkeypatch.setattr(answer, name, call)

    counted("predict", wm.predict)
    counted("train", wm.train)
    return calls


def outputs(choice, tmp_path, **options):
    options = {"until": None, "steps": 30, **options}
    found = wm.compare(network, problem(), {"plain": SLOW, "other": choice}, 2, out=tmp_path, **options)
    return found.predicted["other"], found


def test_schedulers_that_are_lambdas_do_not_share_an_answer(tmp_path, asked):
    fast, _ = outputs(wm.Recipe(SLOW, scheduler=lambda o: StepLR(o, 10)), tmp_path)
    slow, _ = outputs(wm.Recipe(SLOW, scheduler=lambda o: StepLR(o, 500, gamma=0.5)), tmp_path)
    plain, _ = outputs(wm.Recipe(partial(torch.optim.SGD, lr=0.05)), tmp_path)
    assert not torch.allclose(fast, slow)
    torch.testing.assert_close(slow, plain, rtol=1e-6, atol=1e-6)
    count = len(asked)
    again, _ = outputs(wm.Recipe(SLOW, scheduler=lambda o: StepLR(o, 10)), tmp_path)
    assert torch.equal(again, fast)
    assert len(asked) == count == 6, "the third is that of the plain recipe"


@pytest.mark.parametrize("train", [False, True])
def test_what_cannot_be_told_apart_is_not_kept(tmp_path, asked, train):
    found = []
    for factor in (0.9, 0.5):
        recipe = wm.Recipe(SLOW, scheduler=partial(LambdaLR, lr_lambda=lambda k, factor=factor: factor**k))
        found.append(outputs(recipe, tmp_path, train=train))
    assert not torch.allclose(found[0][0], found[1][0])
    kinds = 1 + train
    assert len(asked) == (2 + 2 + 2) * kinds, "the plain recipe is read back"
    assert len(list((tmp_path / "runs").iterdir())) == 2 * kinds
    (note,) = (n for n in found[0][1].notes if "not kept" in n)
    assert note == (
        "other: finished runs are not kept, because a function (lr_lambdas of the scheduler LambdaLR) is code of your "
        "own, whose changes cannot be seen."
    )


def test_networks_whose_code_changes_do_not_share_an_answer(tmp_path):
    def draw(function):
        def make(seed):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Linear(6, 32), Function(function), nn.Linear(32, 1)).double()

        return make

    class Function(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    choices = {"a": SLOW, "b": partial(torch.optim.SGD, lr=0.02)}
    relu, tanh = (
        wm.compare(draw(f), problem(), choices, 2, until=None, steps=9, out=tmp_path) for f in (torch.relu, torch.tanh)
    )
    assert not torch.allclose(relu.predicted["a"], tanh.predicted["a"])


def test_an_interrupted_training_is_not_kept(tmp_path, monkeypatch):
    step, steps = torch.optim.SGD.step, []

    def interrupting(self, closure=None):
        steps.append(self)
        if len(steps) == 5:
            raise KeyboardInterrupt
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", interrupting)
    with pytest.raises(KeyboardInterrupt):
        outputs(SGD, tmp_path, train=True)
    assert len(steps) == 5
    kept = [path.name.partition("-")[0] for path in (tmp_path / "runs").iterdir()]
    assert kept == ["predicted"]
    monkeypatch.setattr(torch.optim.SGD, "step", step)
    _, found = outputs(SGD, tmp_path, train=True)
    whole = wm.train(network(0), problem(), SLOW, until=None, steps=30)
    torch.testing.assert_close(found.trained["plain"][0], whole.test)


@pytest.mark.parametrize(
    ("change", "predicted", "trained"),
    [
        ({}, 0, 0),
        ({"tol": 2e-2}, 4, 0),
        ({"steps": 8}, 4, 4),
        ({"until": 1e-3}, 4, 4),
        ({"level": 0.2}, 0, 0),
    ],
    ids=str,
)
def test_a_comparison_is_read_back_for_the_same_arguments(tmp_path, asked, change, predicted, trained):
    arguments = {"until": 1e-2, "steps": 9, "tol": 1e-2, "train": True, "out": tmp_path}
    choices = {"one": SLOW, "other": partial(torch.optim.SGD, lr=0.02)}
    first = wm.compare(network, problem(), choices, 2, **arguments)
    assert [name for name, _ in asked].count("predict") == [name for name, _ in asked].count("train") == 4
    asked.clear()
    again = wm.compare(network, problem(), choices, 2, **arguments | change)
    names = [name for name, _ in asked]
    assert (names.count("predict"), names.count("train")) == (predicted, trained)
    for values in ("predicted", "trained", "errors", "steps"):
        same = [torch.equal(getattr(first, values)[name], getattr(again, values)[name]) for name in choices]
        assert all(same) or asked


EDITED = """
import torch
from whichmin.networks import MLP

class Edited(MLP):
    def forward(self, x):
        return super().forward(x){edit}

def make(seed):
    return Edited((6, 16, 1), seed=seed, dtype=torch.float64)
"""


def test_a_forward_that_was_edited_in_its_file_is_not_answered_from_an_old_run(tmp_path, monkeypatch, asked):
    monkeypatch.syspath_prepend(tmp_path)
    choices = {"one": SLOW, "other": partial(torch.optim.SGD, lr=0.02)}
    outputs = []
    for edit in ("", " * 1.0", " + (x.abs().amax(1, keepdim=True) > 1e6)", ""):
        (tmp_path / "edited_network.py").write_text(EDITED.format(edit=edit) + "\n" * len(outputs))
        module = importlib.import_module("edited_network")
        module = importlib.reload(module)
        found = wm.compare(module.make, problem(), choices, 2, until=None, steps=5, out=tmp_path / "out")
        outputs.append(found)
    monkeypatch.delitem(sys.modules, "edited_network")
    assert len(asked) == 3 * 4, "the last is the first again"
    assert [found.reused for found in outputs] == [0, 0, 0, 4]


def test_a_forward_that_was_edited_in_a_subclass_is_not_answered_from_an_old_run(tmp_path, asked):
    def made(forward):
        kind = type("Edited", (wm.networks.MLP,), {"forward": forward, "__module__": __name__})
        return lambda seed: kind((6, 16, 1), seed=seed, dtype=torch.float64)

    def before(self, x):
        return wm.networks.MLP.forward(self, x)

    def after(self, x):  # the same on all of these data, and at the probed parameters
        return wm.networks.MLP.forward(self, x) * (1.0 if float(x.abs().max()) < 1e6 else 2.0)

    choices = {"one": SLOW, "other": partial(torch.optim.SGD, lr=0.02)}
    reused = [
        wm.compare(made(forward), problem(), choices, 2, until=None, steps=5, out=tmp_path).reused
        for forward in (before, after, before)
    ]
    assert reused == [0, 0, 4]
    assert len(asked) == 8


def test_outputs_on_all_of_the_data_count():
    class Last(wm.networks.MLP):
        factor = 1.0

        def forward(self, x):
            return super().forward(x) * torch.where(x[:, :1] == row, self.factor, 1.0)

    task = changed("X")  # its last row is like no other
    assert task.n > subject.PROBED_ROWS
    row, model = task.X[-1, 0], Last((6, 8, 1), seed=0, dtype=torch.float64)
    before = signature(model, task)
    model.factor = 1.001
    assert signature(model, task) != before


def test_what_an_optimizer_does_counts(monkeypatch):
    before = question().key
    step = torch.optim.SGD.step

    def other(self, closure=None):
        step(self, closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(1 - 1e-12)

    monkeypatch.setattr(torch.optim.SGD, "step", other)
    assert question().key != before
