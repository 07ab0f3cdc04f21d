"""What is said of remedies: the answer in a sentence, and every number in its column."""

from __future__ import annotations

import dataclasses
import math

import pytest

from oracles.builders import make_mitigation
from whichmin.report.mitigation import (
    brief_tables,
    failures,
    finding,
    remedy_columns,
    remedy_rows,
    search_rows,
    title_of,
)
from whichmin.report.numbers import MISSING, number


def test_a_remedy_is_recommended_with_what_it_brings():
    told = finding(make_mitigation())
    assert told[0].startswith(
        "Take scale search at scale 0.50: it is predicted to bring the validation MSE from 1.00 to 0.1"
    )
    assert "(p = " in told[0]
    assert told[1].startswith("Trained, it has 0.1")
    assert finding(make_mitigation(train=False))[1] == "Nothing was trained."


def test_leave_it_as_it_is_says_why():
    quiet = make_mitigation(losses={"as_it_is": 0.1, "centered": 0.2})
    assert finding(quiet) == ["Leave it as it is: no remedy is predicted to lower the validation loss."]
    unsure = make_mitigation(losses={"as_it_is": 0.2, "centered": 0.1}, error=1.0)
    assert "is below what the predictions may be off by" in finding(unsure)[0]
    assert "the largest predicted gain, 0.100 by centered" in finding(unsure)[0]
    scattered = make_mitigation(losses={"as_it_is": 0.101, "centered": 0.1}, noise=3.0)
    assert "is not significant (p = " in finding(scattered)[0]
    assert finding(make_mitigation(losses={"as_it_is": 0.1})) == ["No remedy was tried."]


def test_a_training_that_failed_is_told():
    made = make_mitigation(train=False)
    remedies = tuple(dataclasses.replace(r, failure="it diverged.") for r in made.remedies)
    broken = dataclasses.replace(made, remedies=remedies)
    assert finding(broken)[1] == "Training it failed: it diverged."
    assert failures(broken)[1] == "scale search: it diverged."


def test_every_number_stands_in_its_column():
    made = make_mitigation()
    frame = made.to_frame()
    columns = list(remedy_columns(made))
    rows = dict(remedy_rows(made))
    assert list(rows) == ["interpolator", "as it is", "scale search, 0.50", "centered"]
    for (_, row), cells in zip(frame.iterrows(), rows.values(), strict=True):
        for column, name in (
            ("error of the prediction", "error"),
            ("distance to the interpolator, predicted", "distance_predicted"),
            ("distance to the interpolator, trained", "distance_trained"),
        ):
            value = row[name]
            assert cells[columns.index(column)] == (MISSING if math.isnan(value) else number(value))
        at = columns.index("validation MSE, trained")
        if not math.isnan(row["validation_trained"]):
            expected = f"{number(row['validation_trained'])} ± {number(row['validation_se_trained'], 2)}"
            assert cells[at] == expected
    assert rows["centered"][columns.index("parameters")] == "+100"
    assert rows["centered"][columns.index("forward passes")] == "2"
    assert rows["centered"][columns.index("steps")] == "+10"
    assert [cells[columns.index("significant")] for cells in rows.values()] == ["", "", "yes", "yes"]


def test_columns_without_numbers_are_left_out():
    columns = list(remedy_columns(make_mitigation(train=False)))
    assert not any("trained" in column for column in columns)
    assert any("accuracy" in column for column in columns), "targets are two classes"


def test_the_brief_tables_fit_a_terminal():
    from whichmin.cli.tables import aligned

    for table in brief_tables(make_mitigation()):
        assert len({len(row) for row in table}) == 1
        assert max(map(len, aligned(table))) <= 130


def test_a_search_is_a_row_for_each_scale():
    search = make_mitigation()["scale_search"].search
    content = search_rows(search, "MSE")
    assert [name for name, _ in content["rows"]] == ["1.00", "0.500", "0.250"]
    assert [cells[0] for _, cells in content["rows"]] == [number(loss) for loss in search.losses]
    assert content["rows"][0][1][1] == MISSING


@pytest.mark.parametrize(("name", "title"), [("as_it_is", "as it is"), ("jump", "jump")])
def test_names_are_words(name, title):
    assert title_of(name) == title
