"""The grid: what is an axis, what is a value, and what cannot be."""

from __future__ import annotations

import pytest

from whichmin.data import table
from whichmin.errors import ConfigError, DataError
from whichmin.studies.sweeping.grid import Grid


def column(key, values):
    return [cell.value(key) for cell in Grid.of(values).cells()]


def test_every_combination_in_order_seeds_last():
    grid = Grid.of({"seeds": 2, "scale": [0.5, 1.0], "batch_size": ["none", 10]})
    assert grid.size == 8
    found = [(c.value("scale"), c.value("batch_size"), c.initialization) for c in grid.cells()]
    assert found == [(s, b, i) for s in (0.5, 1.0) for b in (None, 10) for i in (0, 1)]


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        ("seeds", {"seeds": 3}, [0, 1, 2]),
        ("seeds", {"seeds": [4, 7]}, [4, 7]),
        ("seeds", {"n-train": 7}, [0, 1, 2]),
        ("hidden", {"hidden": 64}, ["64"]),
        ("hidden", {"hidden": [64, 128]}, ["64", "128"]),
        ("hidden", {"hidden": [[64, 128], [32]]}, ["64-128", "32"]),
        ("hidden", {"width": [8, 16], "depth": [1, 2]}, ["8", "8-8", "16", "16-16"]),
        ("depth", {"depth": [1, 2]}, [1, 2]),
        ("width", {"depth": 2}, [2048]),
        ("classes", {"classes": [0, 1]}, ["0,1"]),
        ("classes", {"classes": [[0, 1], [3, 8], "all"]}, ["0,1", "3,8", "all"]),
        ("optimizer", {"optimizer": "sgd:momentum=0.9,adam"}, ["sgd momentum=0.9", "adam"]),
        ("optimizer", {"optimizer": ["sgd", {"name": "adam", "betas": [0.8, 0.9]}]}, ["sgd", "adam betas=0.8/0.9"]),
        ("lr", {"optimizer": "sgd,adam", "lr": [0.1, 0.2]}, [0.1, 0.2, 0.1, 0.2]),
        ("lr", {"optimizer": ["sgd:lr=3", "adam:lr=2"]}, [3.0, 2.0]),
        ("lr", {"lr": [0.1, "best"]}, [0.1, "best"]),
        ("loss", {"loss": ["mse", "cross-entropy"], "steps": 9}, ["mse", "cross-entropy"]),
        ("data", {"data": ["digits", "mnist"]}, ["digits", "mnist"]),
        ("mitigation", {"mitigation": ["as_it_is", "centered"]}, ["as_it_is", "centered"]),
        ("validation", {"mitigation": "centered"}, [0.2]),
        ("validation", {"mitigation": "as_it_is", "validation": 0.3}, [0.3]),
        ("validation", {"scale": 1.0}, [0.0]),
        ("train", {"scale": 1.0}, [False]),
        ("train", {"train": True}, [True]),
    ],
    ids=str,
)
def test_values_and_axes(key, values, expected):
    assert column(key, {"seeds": 1} | values if key != "seeds" else values) == expected


def test_a_table_is_read_once_for_the_loss_of_each_target(tmp_path, monkeypatch):
    path = tmp_path / "plants.csv"
    path.write_text("size,kind\n1.5,oak\n2.5,elm\n")
    real, read = table.read_table, []
    monkeypatch.setattr(table, "read_table", lambda file: read.append(file) or real(file))
    values = {"data": str(path), "target": ["size", "kind"], "scale": [0.5, 1.0], "seeds": 3, "steps": 9}
    assert column("loss", values) == 6 * ["mse"] + 6 * ["cross-entropy"]
    assert read == [path, path]
    said = column("loss", values | {"loss": [None, "huber"], "scale": 1.0, "seeds": 1})
    assert said == ["mse", "huber", "cross-entropy", "huber"]
    assert read == 4 * [path]
    with pytest.raises(DataError, match="say which column is the target"):
        column("loss", {"data": str(path)})


def test_training_may_be_said_over_the_grid():
    assert [c.experiment.train for c in Grid.of({"seeds": 1, "train": True}, train=False).cells()] == [False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "the grid has nothing in it; expected keys and values"),
        ([1], "the grid has nothing in it"),
        ({"scale": []}, "scale is an empty list, so that the grid has nothing in it"),
        ({"seeds": 0}, "seeds is 0; expected how many initializations"),
        ({"seeds": []}, r"seeds is \[\]; expected how many"),
        ({"seeds": 2.5}, "seeds is 2.5; expected how many"),
        ({"scales": [1.0]}, "the grid has the unknown key 'scales'; did you mean 'scale'"),
        ({"withd": 3}, "did you mean 'width'"),
        ({"scale": [0.5, 0.5]}, "scale has 0.5 twice"),
        ({"hidden": [600, 600]}, r"hidden has \[600\] twice.*write a list in a list, \[\[600, 600\]\]"),
        ({"width": 3, "hidden": 4}, "got width and hidden"),
        ({"depth": 3, "hidden": 4}, "got depth and hidden"),
        ({"depth": [0]}, "depth is 0; expected a whole number"),
        ({"mitigation": "hope"}, "mitigation is 'hope'; expected some of as_it_is, scale_search"),
        ({"validation": 1.0}, "validation is 1.0; expected a share"),
        ({"mitigation": "centered", "validation": 0}, "centered needs points that it is looked at by"),
        ({"optimizer": []}, "optimizer is empty"),
        ({"optimizer": ["sgd", "adam"], "lr": "best"}, "lr is 'best' for adam"),
        ({"scale": [1.0, -1.0]}, "scale is -1.0; expected a positive number"),
        ({"train": [True, False]}, r"train is \[True, False\]; expected true or false"),
    ],
    ids=str,
)
def test_what_cannot_be(values, message):
    with pytest.raises(ConfigError, match=message):
        list(Grid.of(values).cells())
