"""The page of remedies: the answer first, then the table, the search and what went wrong."""

from __future__ import annotations

import pytest

from oracles.builders import make_mitigation
from oracles.pages import Page
from whichmin.report.mitigation import finding
from whichmin.report.pages.mitigation import mitigation_page

pytestmark = pytest.mark.usefixtures("undrawn")


def test_it_has_the_answer_the_table_and_the_search():
    made = make_mitigation()
    page = Page(mitigation_page(made))
    page.assert_stands_alone()
    assert page.finding == " ".join(finding(made))
    assert page.sections == ["remedies", "search", "notes", "asked"]
    assert "The search, predicted, stopped: the validation loss rises." in page.source
    assert "Train the network less what it was before training." in page.source
    assert "a remark" in page.source


def test_without_a_search_there_is_no_section():
    page = Page(mitigation_page(make_mitigation(losses={"as_it_is": 0.1, "centered": 0.2}), title="A title"))
    assert "search" not in page.sections
    assert "<h1>A title</h1>" in page.source
