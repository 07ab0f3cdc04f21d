from __future__ import annotations

import dataclasses
import json

import pytest

from whichmin.errors import ConfigError
from whichmin.studies.experiment.config import LOSSES, Experiment, read_config

BAD = {
    "data": (3, "a name"),
    "classes": ((1,), "two different classes"),
    "n_train": (0, "a whole number, 1 or more"),
    "n_test": (2.5, "a whole number, 1 or more"),
    "data_seed": (-1, "a whole number, 0 or more"),
    "loss": ("mean", "'mse' or 'cross-entropy' or 'binary-cross-entropy' or 'huber' or"),
    "target": ("", "the name of a column"),
    "test": (1.0, "a share of the rows, above 0 and below 1"),
    "standardize": ("yes", "true or false"),
    "network": ("mpl", "'mlp' or 'cnn'"),
    "hidden": ((0,), "a list of widths"),
    "parametrization": ("mup", "'ntk' or 'standard'"),
    "activation": ("", "a name"),
    "bias": (1, "true or false"),
    "scale": (0, "a positive number"),
    "model": ("package.factory", "'package.module:factory'"),
    "seeds": (True, "how many initializations, 1 or more, or a list of their numbers"),
    "batch_size": (0, "a whole number of rows, 1 or more"),
    "seed": (-1, "a whole number, 0 or more"),
    "lr": ("good", "best, half, monotone or a positive number"),
    "until": (float("nan"), "a number"),
    "steps": (0, "a whole number, 1 or more"),
    "tol": (-1e-2, "a positive number"),
    "dtype": ("float16", "'float32' or 'float64'"),
    "device": (0, "a name"),
    "train": ("yes", "true or false"),
}


def test_every_field_has_a_bad_value():
    assert set(BAD) | {"optimizer"} == {field.name for field in dataclasses.fields(Experiment)}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_named(name):
    value, expected = BAD[name]
    with pytest.raises(ConfigError, match=f"^{name} is .*; expected {expected}"):
        Experiment(**{name: value})


def test_classes_are_a_list_or_all():
    with pytest.raises(ConfigError, match="classes is 'some'; expected a list such as"):
        Experiment(classes="some")


@pytest.mark.parametrize("loss", LOSSES)
def test_until_is_small_where_the_loss_is_least_at_the_targets(loss):
    without = ("cross-entropy", "binary-cross-entropy", "poisson")
    assert Experiment(loss=loss).until == (None if loss in without else 1e-5)
    assert Experiment(loss=loss, until=1).until == 1.0
    assert Experiment(loss=loss, steps=9).until is None
    assert Experiment(loss=loss, steps=9, until=1).until == 1.0


def test_unknown_key_names_the_closest():
    with pytest.raises(ConfigError, match=r"x\.toml has the unknown key 'n_trian'; did you mean 'n_train'"):
        Experiment.from_mapping({"n_trian": 3}, "x.toml")


def test_own_network_and_a_model_contradict_each_other():
    with pytest.raises(ConfigError, match="model is 'm:f' and hidden, bias describe a network of whichmin's"):
        Experiment(model="m:f", hidden=(3,), bias=True)


def test_lists_and_whole_numbers_are_taken_in():
    experiment = Experiment.from_mapping({"n-train": 5, "hidden": [3, 4], "classes": ["cat", 1], "lr": 1, "until": 1})
    assert (experiment.n_train, experiment.hidden, experiment.classes) == (5, (3, 4), ("cat", 1))
    assert all(isinstance(value, float) for value in (experiment.lr, experiment.until))


def test_what_is_not_said_is_resolved():
    assert Experiment().to_dict()["hidden"] == [2048]
    assert Experiment().to_dict()["classes"] == [0, 1]
    assert Experiment(network="cnn").to_dict()["hidden"] == [64, 64, 64]
    assert Experiment(data="x.npz").chosen_classes is None
    assert Experiment(classes="all").chosen_classes is None


def test_the_dictionary_makes_the_experiment_again():
    experiment = Experiment(classes=(3, 8), hidden=(6, 6), lr=0.5, seeds=2)
    assert Experiment.from_mapping(json.loads(json.dumps(experiment.to_dict()))) == experiment
    foreign = Experiment(model="m:f")
    assert "hidden" not in foreign.to_dict()
    assert Experiment.from_mapping(foreign.to_dict() | {"classes": None}) == foreign


@pytest.mark.parametrize(
    ("name", "text"), [("c.toml", "lr = 0.5\nclasses = [3, 8]"), ("c.json", '{"lr": 0.5, "classes": [3, 8]}')]
)
def test_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_config(tmp_path / name) == {"lr": 0.5, "classes": [3, 8]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.toml", "lr = ", "is not valid TOML"),
        ("c.json", "{", "is not valid JSON"),
        ("c.json", "[1]", "holds a list; expected names and values"),
        ("c.yaml", "lr: 1", "is neither .toml nor .json"),
        ("c.toml", None, "cannot read .*c.toml: No such file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_config(tmp_path / name)
