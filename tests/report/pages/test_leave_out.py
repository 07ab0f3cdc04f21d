"""The page of leave_out: what it says is what the result holds."""

from __future__ import annotations

import pytest
import torch

from oracles.pages import Page, without_drawings
from studies.test_left_out import EACH, of_one_output, result
from whichmin.report.leave_out import finding, point_views, strongest
from whichmin.report.pages.leave_out import leave_out_page

Y_TEST = torch.tensor([1.0, -1.0])


@pytest.fixture(scope="module")
def page():
    with without_drawings():
        return Page(leave_out_page(of_one_output(Y_TEST)))


def test_it_stands_alone(page):
    page.assert_stands_alone()
    assert page.sections == ["effects", "groups", "points", "asked"]
    assert page.figures == ["effects", "losses"]


def test_the_groups_whose_removal_helps_most_come_first(page):
    table = page.table("Groups")
    assert [row["group"] for row in table] == ["2", "0", "1", "3"]
    assert table[0]["test error"] == "0.145"
    assert table[3]["change"] == "+0.65"
    assert table[2]["labels that flip"] == "50 %"


def test_the_rows_for_and_against_a_test_point(page):
    rows = page.table("Test points")
    assert rows[0]["test point"].startswith("0 (1")
    assert "row 3 (1.00) +0.70" in rows[0]["hold it up"]
    assert "row 1 (1.00) −0.20" in rows[0]["pull it down"]


def test_it_says_what_is_divided_and_which_batches(page):
    assert "divides by the rows that are left" in page.words
    assert "those of all rows with the left-out rows taken out" in page.words
    with without_drawings():
        redrawn = Page(leave_out_page(of_one_output(Y_TEST, batches="redrawn", loss=torch.nn.MSELoss(reduction="sum"))))
    assert "drawn again from the rest" in redrawn.words
    assert "divides by" not in redrawn.words


def test_pictures_of_rows_are_shown():
    found = of_one_output(Y_TEST)
    X = torch.rand(4, 64)
    images = type(found.task)(X, found.task.y, torch.rand(2, 64), Y_TEST)
    (view, *_) = point_views(type(found)(**vars(found) | {"task": images}))
    assert view.image.startswith("data:image/png;base64,")
    assert view.supporting[0].image.startswith("data:image/png;base64,")


def test_the_finding_counts():
    said = " ".join(finding(of_one_output(Y_TEST)))
    assert said.startswith("Of 4 training rows, each left out alone, leaving one out moves the test outputs by 0.31")
    assert "2 of 2 test points are decided differently without some of them." in said
    assert "Without 1 of them the test error (MSE) would be lower than the 0.250 of all rows; lowest, 0.145" in said


def test_effects_that_predictions_may_be_off_by_are_said_to_be():
    found = of_one_output(Y_TEST)
    errors = found.effect.sort().values
    for clear, words in ((0, "none of them moves"), (1, "only 1 of them moves")):
        error = torch.full_like(found.error, float(errors[-1 - clear]) * (1 + 1e-9))
        said = " ".join(finding(type(found)(**vars(found) | {"error": error})))
        assert f"{words} the outputs by more than its prediction’s error." in said
    none = type(found)(**vars(found) | {"error": torch.full_like(found.error, 0.5 * float(errors[0]))})
    assert "by more than" not in " ".join(finding(none))


def test_without_targets_the_largest_effects_come_first():
    found = of_one_output()
    assert strongest(found)[0] == int(found.effect.argmax())
    with without_drawings():
        page = Page(leave_out_page(found))
    assert page.figures == ["effects"]
    assert "Whose removal changes most" in page.words


def test_nothing_but_failures():
    nothing = torch.full((4, 2, 1), torch.nan)
    found = result([[0.5], [-0.5]], nothing, EACH, y_test=Y_TEST)
    assert finding(found) == ["No group was predicted."]
    with without_drawings():
        page = Page(leave_out_page(found))
    page.assert_stands_alone()
    assert page.figures == []


def test_the_finding_of_groups_that_do_nothing_says_so():
    found = of_one_output(Y_TEST)
    full = found.full.expand_as(found.test)
    still = type(found)(**vars(found) | {"test": full, "error": torch.zeros_like(found.error)})
    said = " ".join(finding(still))
    assert "None of 2 test points is decided differently without any of them." in said
    assert "There is none without which the test error (MSE) would be lower than the 0.250 of all rows." in said
    assert "off by 0" not in said


def test_targets_are_named_by_their_classes():
    y, y_test = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 1])
    one = of_one_output(Y_TEST)
    task = type(one.task)(
        one.task.X, y, one.task.X_test, y_test, loss=torch.nn.CrossEntropyLoss(), classes=("hut", "villa")
    )
    outputs = {name: getattr(one, name).repeat_interleave(2, dim=-1) for name in ("full", "test")}
    outputs = {name: of * torch.tensor([1.0, -1.0]) for name, of in outputs.items()}
    (first, *_) = point_views(type(one)(**vars(one) | {"task": task} | outputs))
    assert first.target in {"hut", "villa"}
    assert {row.target for row in (*first.supporting, *first.opposing)} <= {"hut", "villa"}
