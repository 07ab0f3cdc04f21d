"""The rows of the table, their means and extremes, optimizer by optimizer."""

from __future__ import annotations

import dataclasses

from oracles.builders import make_entry
from whichmin.report import Entry
from whichmin.report.entry_view import entry_views
from whichmin.report.numbers import mean_sd, number
from whichmin.report.quantities import Quantity, summary


def rows(entries: list[Entry]) -> dict[str, Quantity]:
    return {
        ("accuracy, " * (group.name == "Accuracy")) + row.name: row
        for group in summary(entry_views(entries))
        for row in group.rows
    }


def test_means_are_those_of_each_optimizer():
    entries = [
        dataclasses.replace(make_entry(k), optimizer=name, member=f"seed {k // 2}")
        for k, name in enumerate(("sgd", "adam", "sgd", "adam"))
    ]
    row = rows(entries)["trained network"]
    values = [float((e.run.test - e.run.task.y_test).double().square().mean()) for e in entries]
    assert row.means == [mean_sd([row.values[i] for i in places]) for places in ((0, 2), (1, 3))]
    assert row.means[0] != row.means[1]
    assert row.mean == mean_sd(list(row.values))
    assert row.extremes == (number(min(values)), number(max(values)))
    assert row.cells == [(repr(v), number(v)) for v in row.values]


def test_a_row_that_some_entries_lack_is_shown():
    whole, bare = make_entry(0), make_entry(1)
    found = rows([whole, Entry("bare", linearized=bare.linearized)])
    assert found["to train"].values == (whole.run.seconds, None)
    assert found["to train"].cells[1] == ("", "–")
    assert found["to train"].mean == number(whole.run.seconds)
    assert found["to predict, one linearization"].values == (0.031, 0.031)
    assert "to train" not in rows([Entry("bare", linearized=bare.linearized)])
