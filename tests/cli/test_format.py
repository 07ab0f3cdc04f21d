from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from whichmin.cli.format import format_table, headline, number, to_json
from whichmin.studies.experiment.config import Experiment


def frame(entries: int) -> pd.DataFrame:
    columns = {
        "learning_rate": 0.123456,
        "steps_trained": 12345.0,
        "test_loss_trained": 0.0838,
        "test_loss_relinearized": 1.23e-5,
        "mse_to_trained_linearized": math.nan,
        "share_interpolant": 1.0,
    }
    values = pd.DataFrame([{k: v * (1 + 0.1 * i) for k, v in columns.items()} for i in range(entries)])
    values.index = pd.Index([f"seed {i}" for i in range(entries)])
    return pd.concat([values, pd.DataFrame({"mean": values.mean(), "sd": values.std(ddof=1)}).T])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.08384, "0.0838"),
        (1.0, "1.00"),
        (123.4, "123"),
        (12345.0, "12,345"),
        (1.234e-5, "1.2e-5"),
        (3.2e9, "3.2e9"),
        (math.nan, "–"),
        (math.inf, "∞"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_three_entries_side_by_side():
    lines = format_table(frame(3)).splitlines()
    assert lines[0].split() == ["seed", "0", "seed", "1", "seed", "2", "mean", "±", "sd"]
    trained = next(line for line in lines if line.startswith("  trained"))
    assert trained.split()[2:] == ["0.0838", "0.0922", "0.101", "0.0922", "±", "0.0084"]
    assert max(map(len, lines)) <= 100


def test_steps_are_whole():
    counted = frame(2).assign(steps_trained=[50.0, 51.0, 50.5, 0.7])
    line = next(line for line in format_table(counted).splitlines() if line.startswith("  steps"))
    assert line.split()[-5:] == ["50", "51", "50.5", "±", "0.70"]


def test_the_points_of_a_table_are_shares_of_its_rows():
    table = {"data": "homes.csv", "target": "price", "loss": "mse"}
    asked = [{}, {"n_train": 9}, {"n_test": 9}, {"n_train": 9, "n_test": 8}]
    assert [headline(Experiment(**table, **points)).split(" · ")[1] for points in asked] == [
        "70% of the rows to train on and 30% to test on",
        "9 training points and 30% of the rows to test on",
        "9 test points and all other rows to train on",
        "9 training and 8 test points",
    ]


def test_unknown_quantities_and_their_title_are_left_out():
    text = format_table(frame(3))
    assert "distance" not in text
    assert "one linearization" not in text


def test_the_loss_is_named_and_accuracies_stand_beside_it():
    known = frame(2).assign(accuracy_trained=0.9, accuracy_relinearized=0.8)
    lines = format_table(known, loss="cross-entropy").splitlines()
    assert "test error (cross-entropy)" in lines
    start = lines.index("accuracy")
    assert [line.split()[:1] + line.split()[-4:-2] for line in lines[start + 1 : start + 3]] == [
        ["trained", "0.900", "0.900"],
        ["predicted,", "0.800", "0.800"],
    ]
    assert "accuracy" not in format_table(frame(2))
    assert headline(Experiment(loss="huber")).endswith("gradient descent · huber")


def test_one_entry_has_no_mean():
    text = format_table(frame(1))
    assert "±" not in text
    assert "nan" not in text


def test_many_entries_are_summed_up():
    lines = format_table(frame(20)).splitlines()
    assert lines[0].split() == ["least", "greatest", "mean", "±", "sd"]
    trained = next(line for line in lines if line.startswith("  trained"))
    assert trained.split()[2:4] == ["0.0838", "0.243"]
    assert max(map(len, lines)) <= 100


def test_json_has_no_nan():
    said = json.loads(json.dumps(to_json(frame(1)), allow_nan=False))
    assert said["seeds"] == [
        {"label": "seed 0", "learning_rate": 0.123456, "steps_trained": 12345.0, "test_loss_trained": 0.0838}
        | {"test_loss_relinearized": 1.23e-5, "mse_to_trained_linearized": None, "share_interpolant": 1.0}
    ]
    assert said["sd"]["learning_rate"] is None
    assert said["mean"]["learning_rate"] == 0.123456


def test_headline():
    assert headline(Experiment()) == (
        "digits 0 against 1 · 100 training and 100 test points · mlp 2048, relu · gradient descent"
    )
    assert "mnist 1, 2, 3" in headline(Experiment(data="mnist", classes=(1, 2, 3)))
    assert "m:f" in headline(Experiment(model="m:f"))
