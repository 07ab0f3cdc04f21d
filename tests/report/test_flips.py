from __future__ import annotations

import dataclasses

import torch

from oracles.builders import N_TEST, make_classes, make_entry, make_task
from whichmin import Task
from whichmin.report import Entry
from whichmin.report.entries_finding import headline
from whichmin.report.entry_view import entry_views
from whichmin.report.flips import SHOWN, flips
from whichmin.report.thumbnails import thumbnail


def with_outputs(*columns: torch.Tensor, task: Task | None = None):
    """Entries whose trained networks have these test outputs."""
    base = make_entry(task=task)
    runs = [dataclasses.replace(base.run, test=c.reshape(N_TEST, -1).float()) for c in columns]
    return entry_views([Entry(f"seed {i}", run=run) for i, run in enumerate(runs)])


def test_exactly_the_points_that_differ():
    a = torch.ones(N_TEST)
    b = a.clone()
    b[[3, 17]] = -0.2
    got = flips(with_outputs(a, b, a))
    assert got is not None
    assert [p.index for p in got.points] == [3, 17]
    assert got.total == 2
    assert got.points[0].votes == "1 below, 2 above"
    assert [text for text, _ in got.points[0].cells] == ["1.00", "−0.200", "1.00"]
    assert [side for _, side in got.points[0].cells] == [1, 0, 1]


def test_the_most_evenly_split_come_first_and_of_these_the_most_spread():
    columns = [torch.ones(N_TEST) for _ in range(4)]
    for point, below, size in ((3, 1, 9.0), (8, 2, 0.5), (11, 2, 2.0), (20, 1, 0.1)):
        for column in columns[:below]:
            column[point] = -size
    got = flips(with_outputs(*columns))
    assert [p.index for p in got.points] == [11, 8, 3, 20]
    assert [p.votes for p in got.points] == ["2 below, 2 above"] * 2 + ["1 below, 3 above"] * 2


def test_places_on_a_strip_are_those_of_the_outputs():
    a, b = torch.ones(N_TEST), torch.ones(N_TEST)
    a[4], b[4] = -3.0, 1.0
    (point,) = flips(with_outputs(a, b)).points
    assert point.strip == ((5.0, 0), (95.0, 1))
    assert point.middle == 5 + 90 * 0.75


def test_none_when_they_agree():
    a = torch.linspace(0.1, 1, N_TEST)
    got = flips(with_outputs(a, 2 * a))
    assert got is not None
    assert got.points == ()
    assert "none would be flipped" in got.text


def test_no_section_where_there_is_nothing_to_compare():
    assert flips(entry_views([make_entry()])) is None
    assert flips(entry_views([Entry("a"), Entry("b")])) is None


def test_zero_one_targets_are_decided_at_a_half():
    task = make_task()
    half = Task(task.X, (task.y + 1) / 2, task.X_test, (task.y_test + 1) / 2)
    got = flips(with_outputs(torch.full((N_TEST,), 0.4), torch.full((N_TEST,), 0.6), task=half))
    assert got is not None
    assert got.total == N_TEST
    assert len(got.points) == SHOWN


def test_the_threshold_is_said():
    task = make_task()
    half = Task(task.X, (task.y + 1) / 2, task.X_test, (task.y_test + 1) / 2)
    outputs = torch.full((N_TEST,), 0.4)
    got = flips(with_outputs(outputs, outputs, outputs, task=half))
    assert got.text.startswith(
        "Deciding by the side of 0.500, the 3 trained networks agree on every one of the 60 test"
    )


def test_several_outputs_are_decided_by_the_largest():
    task = make_task(outputs=3)
    one = torch.tensor([0.5, 0.25, -0.75]).repeat(N_TEST, 1)
    other = one.clone()
    other[7] = torch.tensor([0.125, 0.25, 0.75])
    got = flips(with_outputs(one, other, task=task))
    (point,) = got.points
    assert (point.index, point.target) == (7, "class 1")
    assert point.cells == (("0 (0.500)", 0), ("2 (0.750)", 2))
    assert point.votes == "1 class 0, 1 class 2"
    assert point.strip == ()
    assert got.text.startswith("Deciding by the largest output, the 2 trained networks disagree on 1 of 60 test points")


def test_class_numbers_go_by_their_labels():
    task = make_classes()
    one = torch.tensor([0.5, 0.25, -0.75]).repeat(N_TEST, 1)
    other = one.clone()
    other[7] = torch.tensor([0.125, 0.25, 0.75])
    (point,) = flips(with_outputs(one, other, task=task)).points
    assert (point.index, point.position, point.target) == (7, None, "class b")
    assert point.cells == (("a (0.500)", 0), ("c (0.750)", 2))
    assert point.votes == "1 class a, 1 class c"


def test_every_position_decides_for_itself():
    base = make_task()
    y, y_test = (torch.arange(2 * n).reshape(n, 2) % 3 for n in (len(base.y), N_TEST))
    task = Task(base.X, y, base.X_test, y_test, torch.nn.CrossEntropyLoss())
    one = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]).repeat(N_TEST, 1, 1)
    other = one.clone()
    other[9, 1] = torch.tensor([0.0, 3.0, 2.0])
    entries = [dataclasses.replace(make_entry().run, task=task, test=test.flatten(1)) for test in (one, other)]
    (point,) = flips(entry_views([Entry(str(i), run=run) for i, run in enumerate(entries)])).points
    assert (point.index, point.position, point.target) == (9, 1, f"class {int(y_test[9, 1])}")
    assert point.votes == "1 class 1, 1 class 2"


def test_of_both_predictions_that_along_the_path_is_told():
    entries = [make_entry(seed) for seed in range(2)]
    trained, path, linearized = (torch.ones(N_TEST, 1) for _ in range(3))
    path[:6], linearized[:30] = -1.0, -1.0
    entries = [
        dataclasses.replace(
            e,
            run=dataclasses.replace(e.run, test=trained),
            relinearized=dataclasses.replace(e.relinearized, test=path),
            linearized=dataclasses.replace(e.linearized, test=linearized),
        )
        for e in entries
    ]
    text = flips(entry_views(entries)).text
    assert text.endswith("The predictions along the path decide as the trained networks in 90\u00a0% of all cases.")


def test_regression_is_called_so():
    task = make_task()
    smooth = Task(task.X, torch.linspace(-1, 1, task.n), task.X_test, torch.linspace(-1, 1, task.n_test))
    got = flips(with_outputs(torch.ones(N_TEST), -torch.ones(N_TEST), task=smooth))
    assert got is not None
    assert "not two classes" in got.text
    assert "decided" not in " ".join(headline(with_outputs(torch.ones(N_TEST), -torch.ones(N_TEST), task=smooth), got))


def test_predictions_are_compared_where_nothing_was_trained():
    entries = [make_entry(seed) for seed in range(3)]
    got = flips(entry_views([Entry(e.label, linearized=e.linearized) for e in entries]))
    assert got is not None
    assert "linearized predictions" in got.text
    assert got.points[0].image is None


def test_the_prediction_foresees():
    got = flips(entry_views([make_entry(seed) for seed in range(3)]))
    assert got is not None
    assert "foresee" in got.text


def test_thumbnails():
    for shape in ((64,), (784,), (3072,), (8, 8), (1, 28, 28), (3, 32, 32)):
        picture = thumbnail(torch.randn(shape))
        assert picture is not None
        assert picture.startswith("data:image/png;base64,iVBOR")
    for shape in ((10,), (100,), (2, 8, 8), (3, 8, 9), (3, 3)):
        assert thumbnail(torch.randn(shape)) is None
    assert thumbnail(torch.zeros(64)) is not None
