"""Optimizers as text and tables say them."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch

from whichmin.errors import ConfigError
from whichmin.studies.experiment.build import build_optimizer
from whichmin.studies.experiment.config import Experiment, read_config
from whichmin.studies.experiment.optimizers import NamedOptimizer, known, labels, named_optimizers, with_best_rate

MOMENTUM = NamedOptimizer("sgd", "half", (("momentum", 0.9), ("nesterov", True)))


@pytest.mark.parametrize("name", known())
def test_every_known_optimizer_can_be_built(name):
    (named,) = named_optimizers({"name": name.upper(), "lr": 1.0} if name == "asgd" else name.upper(), None)
    assert named.name == name
    assert (named.lr == "half") == (name in with_best_rate())
    factory = build_optimizer(named)
    built = (factory if named.lr != "half" else build_optimizer(NamedOptimizer(name, 0.1)))(
        [torch.nn.Parameter(torch.ones(2, 2))]
    )
    assert built.param_groups[0]["lr"] > 0
    assert type(built).__name__.lower() == name.replace("-", "")


def test_settings_follow_a_colon_and_commas_separate():
    text = "sgd:momentum=0.9,nesterov=true,adam:betas=0.9/0.99,lr=1e-2, Adagrad"
    assert named_optimizers(text, None) == (
        MOMENTUM,
        NamedOptimizer("adam", 0.01, (("betas", (0.9, 0.99)),)),
        NamedOptimizer("adagrad", known()["adagrad"].default_lr),
    )


def test_tables_say_the_same_as_text(tmp_path):
    (tmp_path / "c.toml").write_text('optimizer = [{name = "sgd", momentum = 0.9, nesterov = true}, "adam:lr=0.01"]')
    assert Experiment(**read_config(tmp_path / "c.toml")).optimizer == (MOMENTUM, NamedOptimizer("adam", 0.01))
    assert named_optimizers(MOMENTUM.text, None) == (MOMENTUM,)


def test_learning_rates_are_for_all_or_one_each():
    assert [c.lr for c in named_optimizers("sgd,adam,rmsprop", None)] == ["half", 1e-3, known()["rmsprop"].default_lr]
    assert [c.lr for c in named_optimizers("sgd,adam:lr=3", 0.5)] == [0.5, 0.5]
    assert [c.lr for c in named_optimizers("sgd,adam", ("best", 1e-2))] == ["best", 1e-2]
    assert Experiment(optimizer="sgd,adam").lr == ("half", 1e-3)


def test_the_dictionary_makes_the_optimizers_again():
    both = "sgd:momentum=0.5,adam:betas=0.9/0.99"
    experiment = Experiment(optimizer=both, lr=(0.1, 0.01), batch_size=7, classes=(3, 8), hidden=(6,))
    assert Experiment.from_mapping(json.loads(json.dumps(experiment.to_dict()))) == experiment


def test_labels_tell_them_apart():
    assert labels(named_optimizers("sgd:lr=1,sgd:lr=2,adam:eps=0.1", None)) == ["sgd lr=1", "sgd lr=2", "adam eps=0.1"]


@pytest.mark.parametrize(
    ("optimizer", "lr", "said"),
    [
        ("adma", None, "'adma' is not known; did you mean 'adam'"),
        ("", None, "has the name ''"),
        ([], None, "optimizer is empty"),
        (3, None, "optimizer is 3; expected a name"),
        ({"lr": 1}, None, "has the name None"),
        ({"name": "sgd", "momentum": {}}, None, "sgd has momentum = {}; expected a number"),
        ("momentum=0.9,sgd", None, "begins with a setting"),
        ("sgd:momentum=0.9,momentum=0.5", None, "each setting once"),
        ("sgd,sgd", None, "'sgd:lr=half' twice"),
        ("asgd", None, "asgd has no learning rate that suits all"),
        ("adam", "best", "lr is 'best' for adam; .* such as 0.001"),
        ("package.module:Class", "best", "lr is 'best' for package.module:Class"),
        ("sgd,adam,adagrad", (0.1, 0.2), "lr is '0.1, 0.2', 2 of them for 3 optimizers .*; expected one for all"),
        ("sgd", (0.1, 0.1), "optimizer has 'sgd:lr=0.1' twice; expected different ones"),
        ("sgd", -1, "lr is -1; expected best, half, monotone or a positive number"),
        ("sgd", math.inf, "lr is inf; expected"),
        ("sgd:lr=fast", None, "lr is 'fast'; expected"),
    ],
)
def test_bad_optimizers(optimizer, lr, said):
    with pytest.raises(ConfigError, match=said):
        named_optimizers(optimizer, lr)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sgd:momentm=0.9", "sgd has no setting 'momentm'; did you mean 'momentum'"),
        ("adam:betas=2/0.9", "adam:lr=0.001,betas=2/0.9 cannot be built: Invalid beta"),
        ("nowhere_at_all:Class", "optimizer 'nowhere_at_all:Class': importing nowhere_at_all failed"),
        ("torch.optim:Nothing", "expected a class 'Nothing'; torch.optim does not have it"),
        ("builtins:list", "optimizer 'builtins:list' made a list|cannot be built"),
    ],
)
def test_optimizers_that_cannot_be_built(text, said):
    (named,) = named_optimizers(text, None)
    with pytest.raises(ConfigError, match=said):
        build_optimizer(named)


def test_an_optimizer_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_optimizer_under_test", raising=False)
    (tmp_path / "own_optimizer_under_test.py").write_text(
        "import torch\nclass Half(torch.optim.SGD):\n"
        "    def __init__(self, params, lr=0.5):\n        super().__init__(params, lr)\n"
    )
    (named,) = named_optimizers("own_optimizer_under_test:Half", None)
    assert named.lr is None
    assert build_optimizer(named)([torch.nn.Parameter(torch.ones(2))]).param_groups[0]["lr"] == 0.5


def test_batches_of_all_rows_are_no_batches():
    assert Experiment(n_train=10, batch_size=10).batch_size is Experiment(n_train=10, batch_size=99).batch_size is None
    assert Experiment(n_train=10, batch_size=9).batch_size == 9
