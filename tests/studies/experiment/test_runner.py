"""Experiments: what is kept, and what of it is read back."""

from __future__ import annotations

import dataclasses
import shutil
import sys

import pytest
import torch

from whichmin.studies.experiment import Experiment, run, runner

TINY = {"hidden": (32,), "n_train": 12, "n_test": 8, "seeds": 1, "until": 3e-2, "dtype": "float64"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder in which the answer of ``TINY`` was kept, and that answer."""
    folder = tmp_path_factory.mktemp("kept")
    (first,) = run(Experiment(**TINY), out=folder)
    return folder, first


@pytest.fixture
def asked(monkeypatch):
    """The calls of ``predict``, ``train``, ``explain`` and both of the first: the verb, its recipe and its settings."""
    calls = []

    def counted(name):
        verb = getattr(runner, name)

        def call(model, *args, **options):
            calls.append((name, args[1] if len(args) > 1 else None, options))
            return verb(model, *args, **options)

        monkeypatch.setattr(runner, name, call)

    for name in ("predict", "predict_before_training", "train", "explain"):
        counted(name)
    return calls


class ComputedError(Exception):
    """Something is computed that could have been read back."""


def computing(*_, **__):
    raise ComputedError


@pytest.mark.parametrize(
    "change",
    [
        {"tol": 5e-2},
        {"until": 5e-2},
        {"steps": 3},
        {"train": False},
        {"lr": 0.1},
        {"optimizer": "sgd:momentum=0.5"},
        {"batch_size": 4},
        {"data_seed": 1},
        {"n_test": 9},
        {"hidden": (33,)},
        {"scale": 2.0},
        {"activation": "tanh"},
    ],
    ids=str,
)
def test_an_answer_belongs_to_its_question(tmp_path, kept, asked, monkeypatch, change):
    folder, first = kept
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (again,) = run(Experiment(**TINY), out=tmp_path)
    assert not asked, "it is read back"
    assert torch.equal(again.run.test, first.run.test)
    assert torch.equal(again.relinearized.test, first.relinearized.test)
    assert torch.equal(again.linearized.test, first.linearized.test)
    assert torch.equal(again.explanation.total, first.explanation.total)
    for verb in ("predict", "predict_before_training", "train", "explain"):
        monkeypatch.setattr(runner, verb, computing)
    with pytest.raises(ComputedError):
        run(Experiment(**TINY | change), out=tmp_path)


def test_the_number_of_seeds_and_the_place_of_the_data_do_not_matter(tmp_path, asked):
    run(Experiment(**TINY), out=tmp_path)
    count = len(asked)
    run(Experiment(**TINY | {"seeds": 2}), out=tmp_path)
    assert len(asked) == 2 * count, "one more"


def test_settings_reach_the_verbs(asked):
    run(Experiment(**TINY | {"optimizer": "adam:lr=0.01", "batch_size": 4, "seed": 3, "steps": 5, "tol": 0.03}))
    (both, recipe, options), (explained, *_) = asked
    assert (both, explained) == ("predict_before_training", "explain")
    assert (recipe.batch_size, recipe.seed) == (4, 3)
    assert {k: options[k] for k in ("until", "steps", "tol")} == {"until": 3e-2, "steps": 5, "tol": 0.03}
    asked.clear()
    run(Experiment(**TINY | {"steps": 5, "tol": 0.03}))
    (predicted, recipe, options), (both, again, same), (trained, once_more, limits), (explained, *_) = asked
    assert (predicted, both, trained, explained) == ("predict", "predict_before_training", "train", "explain")
    assert recipe.names_rate
    assert once_more == again
    assert again.optimizer.keywords["lr"] > 0, "the rate that the prediction took for half"
    assert options["relinearize"] == "never"
    for settings in (options, same, limits):
        assert (settings["until"], settings["steps"]) == (3e-2, 5)
    assert options["tol"] == same["tol"] == 0.03
    asked.clear()
    run(Experiment(**TINY | {"train": False, "tol": 0.03}))
    assert [name for name, *_ in asked] == ["predict", "explain"]
    assert asked[0][2]["steps"] is None
    assert (asked[1][2]["train"], asked[1][2]["tol"]) == (False, 0.03)
    assert asked[1][1].optimizer.keywords["lr"] > 0, "the rate that the prediction took for best"


def test_an_interrupted_training_is_no_answer(tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        return dataclasses.replace(train(*arguments, **options), interrupted=True)

    train = runner.train
    monkeypatch.setattr(runner, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(Experiment(**TINY), out=tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("last", [1, 3, 9])
def test_ctrl_c_in_any_step_is_an_end(tmp_path, monkeypatch, last):
    """Also where a prediction makes steps to see how long they take."""
    step, steps = torch.optim.SGD.step, []

    def interrupting(self, closure=None):
        steps.append(self)
        if len(steps) == last:
            raise KeyboardInterrupt
        return step(self, closure)

    monkeypatch.setattr(torch.optim.SGD, "step", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run(Experiment(**TINY), out=tmp_path)
    assert len(steps) == last
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_optimizer_of_ones_own_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_optimizer_under_test", raising=False)
    (tmp_path / "own_optimizer_under_test.py").write_text("import torch\nclass Half(torch.optim.SGD):\n    pass\n")
    experiment = Experiment(**TINY | {"optimizer": "own_optimizer_under_test:Half", "lr": 0.1, "steps": 3})
    (entry,) = run(experiment, out=tmp_path / "out")
    assert entry.run is not None
    assert entry.notes == (
        "finished runs are not kept, because the optimizer Half is code of your own, whose changes cannot be seen.",
    )
    assert list((tmp_path / "out" / "runs").iterdir()) == []
    (entry,) = run(experiment)
    assert entry.notes == ()
