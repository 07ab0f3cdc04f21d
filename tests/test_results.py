"""What holds for every result: saved, tabulated, drawn and reported alike."""

from __future__ import annotations

import dataclasses
import html
import importlib
import json
import math
import pkgutil
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import whichmin as wm
from oracles.builders import make_comparison, make_entry
from oracles.linear_networks import study
from oracles.pages import Page
from whichmin import linear
from whichmin.errors import InputError, OutputError, ResultError
from whichmin.infinite import FullyConnected
from whichmin.infinite import predict as predict_infinite
from whichmin.report import Entry
from whichmin.results import NOT_SAVED, Result, View, by_point, register_view
from whichmin.shown import LINES, WIDTH
from whichmin.studies.experiment.entry import Entry as StudiesEntry
from whichmin.training.recording import Recording


def problem(outputs: int = 2) -> wm.Task:
    g = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(5, 3, generator=g), torch.randn(4, 3, generator=g)
    return wm.Task(X, torch.randn(5, outputs, generator=g), X_test, torch.randn(4, outputs, generator=g))


def network(seed: int = 0, outputs: int = 2) -> torch.nn.Module:
    return wm.networks.MLP((3, 32, outputs), seed=seed)


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.5)


def recorded() -> wm.Recorder:
    model, task = network(), problem()
    optimizer = SGD(model.parameters())
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(5):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(task.X), task.y).backward()
            optimizer.step()
    return recorder


@dataclasses.dataclass(frozen=True)
class Case:
    """How to make a result, and the columns of its table; None where it has none."""

    make: Callable[[], Result]
    columns: list[str] | None


POINTS = ["point", "output"]
LINEAR_TERMS = ["interpolant", "initialization", "unconverged"]
EFFECT = [
    *("rms_distance", "low", "high", "error", "p_different", "different"),
    *("systematic", "systematic_low", "systematic_high", "p", "significant", "seed_std", "flips", "seeds"),
]
SWEPT = ["solution_distances", "invariant_distances", "levels", "bounds", "tight_bounds", "remaining"]
TRAJECTORY = ["time", "loss", "gap", "solution_distance", "imbalance_drift"]


def deep() -> linear.DeepFlow:
    torch.manual_seed(0)
    weights = [torch.randn(4, 3), torch.randn(4, 4), torch.randn(2, 4)]
    return linear.deep_flow(weights, torch.randn(6, 3), torch.randn(6, 2), torch.linspace(0, 2, 9))


MEASURED = ["validation", "validation_se", "validation_accuracy", "test", "test_se", "test_accuracy", "distance"]
REMEDY = [
    "method",
    *(f"{name}_{kind}" for kind in ("predicted", "trained") for name in MEASURED),
    *("error", "scale", "gain", "gain_error", "p", "significant"),
    *("parameters", "passes", "extra_steps", "extra_seconds", "failure"),
]


def mitigated() -> wm.Mitigation:
    methods = [wm.mitigation.ScaleSearch(scales=(0.7,)), "centered"]
    g = torch.Generator().manual_seed(1)
    validation = torch.randn(6, 3, generator=g), torch.randn(6, 2, generator=g)
    return wm.mitigate(
        network(), problem(), SGD, validation=validation, methods=methods, train="all", until=None, steps=20
    )


CASES: dict[type[Result], Case] = {
    wm.Prediction: Case(
        lambda: wm.predict(network(), problem(), SGD, steps=20, relinearize="never"),
        [*POINTS, "predicted", *LINEAR_TERMS],
    ),
    wm.Run: Case(lambda: wm.train(network(), problem(), SGD, until=None, steps=7), ["step", "loss"]),
    Recording: Case(recorded, ["step", "loss", "lr"]),
    wm.Explanation: Case(
        lambda: wm.explain(wm.train(network(), problem(), SGD, until=None, steps=7)),
        [*POINTS, *LINEAR_TERMS, "curvature", "drift", "total", "target"],
    ),
    StudiesEntry: Case(make_entry, None),
    wm.Comparison: Case(
        make_comparison, ["one", "other", *(f"{name}_{kind}" for kind in ("predicted", "trained") for name in EFFECT)]
    ),
    wm.Mitigation: Case(mitigated, REMEDY),
    wm.SeedSpread: Case(
        lambda: wm.seeds(lambda seed: network(seed), problem(), SGD, 3, steps=20),
        [*POINTS, "mean", "seed_std", "majority", "flip_probability", "target"],
    ),
    wm.LeftOut: Case(
        lambda: wm.leave_out(network(), problem(), SGD, [[0, 1], [4]], steps=20, relinearize="never"),
        ["group", "size", "rows", "test_loss", "loss_change", "flips", "effect", "error", "steps", "method"],
    ),
    wm.infinite.InfinitePrediction: Case(
        lambda: predict_infinite(FullyConnected(2), problem()), [*POINTS, "mean", "std"]
    ),
    linear.WidthSweep: Case(lambda: study().sweep, ["exponent", "width", "seed", *SWEPT]),
    linear.LinearAnalysis: Case(lambda: study().analysis, ["quantity", "value"]),
    linear.LinearFlow: Case(lambda: next(iter(study().flows.values())), TRAJECTORY),
    linear.DeepFlow: Case(deep, TRAJECTORY),
    linear.LinearStudy: Case(study, ["quantity", "guaranteed", "tight", "measured"]),
}


def library_results() -> set[type[Result]]:
    """Every class of results that the library has, but for those that only add to another of the same kind."""
    for module in pkgutil.walk_packages(wm.__path__, "whichmin."):
        if not module.name.startswith("whichmin.cli"):
            importlib.import_module(module.name)

    def below(cls: type[Result]) -> set[type[Result]]:
        return {cls}.union(*map(below, cls.__subclasses__()))

    found = {cls for cls in below(Result) if cls.__module__.startswith("whichmin.") and cls is not Result}
    return {cls for cls in found if "kind" in vars(cls)}


@pytest.fixture(scope="module", params=CASES, ids=lambda cls: cls.__name__)
def case(request) -> tuple[Case, Result]:
    found = CASES[request.param]
    return found, found.make()


@pytest.fixture(scope="module")
def shown(case, tmp_path_factory) -> Page:
    """Its report, with all figures drawn."""
    target = tmp_path_factory.mktemp("shown") / "report.html"
    case[1].report(target)
    return Page(target.read_text(encoding="utf-8"))


def saved(result: Result) -> dict[str, Any]:
    """The fields that are saved."""
    content = result._content()
    fields = [f for f in dataclasses.fields(content) if f.metadata != NOT_SAVED]
    return {f.name: getattr(content, f.name) for f in fields}


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Equal in type, in order and to the last bit."""
    if isinstance(one, Recording):
        assert_same(saved(one), saved(other), where)
        return
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(torch.nan_to_num(one, 7.0), torch.nan_to_num(other, 7.0)), where
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype, where
        np.testing.assert_array_equal(one, other, where)
    elif isinstance(one, Mapping):
        assert list(one) == list(other), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}.{i}")
    elif dataclasses.is_dataclass(one):
        fields = [f.name for f in dataclasses.fields(one) if f.metadata != NOT_SAVED]
        assert_same({f: getattr(one, f) for f in fields}, {f: getattr(other, f) for f in fields}, where)
    elif isinstance(one, float) and math.isnan(one):
        assert math.isnan(other), where
    else:
        assert one == other, where


def test_every_result_of_the_library_is_tested_here():
    assert library_results() == set(CASES)
    kinds = [cls.kind for cls in CASES]
    assert len(set(kinds)) == len(kinds)


def test_saved_and_loaded_is_the_same(case, tmp_path):
    _, result = case
    result.save(tmp_path / "result")
    loaded = type(result).load(tmp_path / "result")
    assert_same(result, loaded)
    for config in (tmp_path / "result").rglob("config.json"):
        written = json.loads(config.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert {"versions", "date"} < set(written)
    loaded.save(tmp_path / "again")
    assert_same(loaded, type(result).load(tmp_path / "again"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "result"]


def test_it_is_loaded_as_its_own_kind_only(case, tmp_path):
    _, result = case
    result.save(tmp_path / "result")
    other = next(cls for cls in CASES if cls.kind != result.kind)
    with pytest.raises(ResultError, match=f"holds a {result.kind!r}; expected a {other.kind!r}"):
        other.load(tmp_path / "result")


def test_a_result_whose_fields_are_missing_is_damaged(case, tmp_path):
    _, result = case
    result.save(tmp_path / "result")
    config = tmp_path / "result" / "config.json"
    config.write_text(config.read_text().replace('"fields": {', '"fields": {"nonsense": 1, ', 1))
    with pytest.raises(ResultError, match="is damaged"):
        type(result).load(tmp_path / "result")


def test_its_table(case):
    expected, result = case
    if expected.columns is None:
        with pytest.raises(ResultError, match="has no table"):
            result.to_frame()
        return
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == expected.columns
    assert len(frame)
    assert isinstance(frame.index, pd.RangeIndex)
    for name in frame.columns:
        assert frame[name].dtype != np.float32, f"{name} loses digits"


def test_it_is_drawn(case):
    figure = case[1].plot()
    assert isinstance(figure, Figure)
    assert all(ax.has_data() for ax in figure.axes)


def test_a_notebook_shows_its_figure_by_itself(case):
    image, size = case[1].plot()._repr_png_()
    assert image.startswith(b"\x89PNG")
    assert 200 < size["width"] < 1000
    assert 100 < size["height"] < 1000


def test_it_is_drawn_into_axes_of_the_caller(case):
    count = len(case[1].plot().axes)
    figure = Figure()
    several = list(figure.subplots(1, count + 1))
    if count == 1:
        assert case[1].plot(ax=several[0]) is figure
    else:
        assert case[1].plot(axes=several[:count]) is figure
    assert [ax.has_data() for ax in several] == [True] * count + [False]
    with pytest.raises(InputError, match="got 7 axes for a figure of"):
        case[1].plot(axes=list(Figure().subplots(1, 7)))
    with pytest.raises(InputError, match="got ax and axes"):
        case[1].plot(ax=several[0], axes=several)


def test_it_says_what_came_out_in_five_lines(case):
    result = case[1]
    lines = repr(result).splitlines()
    assert 1 < len(lines) <= LINES
    assert all(len(line) <= WIDTH + 1 for line in lines)
    finding = " ".join(result._finding())
    assert finding
    assert " ".join(finding.split()[:8]) in " ".join(repr(result).split())


def test_its_panel_has_the_answer_a_figure_and_notes(case):
    result = case[1]
    panel = result._repr_html_()
    text = html.unescape(panel)
    assert " ".join(result._finding()) in text
    assert all(note in text for note in getattr(result, "notes", ()))
    assert panel.count("<svg") == 1
    identifiers = re.findall(r'\bid="([^"]+)"', panel)
    assert len(set(identifiers)) == len(identifiers)
    assert len(panel) < 300_000


def test_its_report_is_one_page_that_needs_nothing_else(shown):
    shown.assert_stands_alone()
    assert shown.finding
    assert shown.figures
    assert shown.sections[-1] == "asked"
    assert len(shown.source) < 1_500_000


@pytest.mark.usefixtures("undrawn")
def test_its_report_is_one_file_with_a_title(case, tmp_path):
    _, result = case
    target = tmp_path / "deeper" / "report.html"
    result.report(target)
    result.report(target, title="A & B")
    assert "<title>A &amp; B</title>" in target.read_text(encoding="utf-8")
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]
    with pytest.raises(OutputError, match="is a folder"):
        result.report(tmp_path)


@pytest.mark.usefixtures("undrawn")
def test_a_loaded_result_is_shown_alike(case, shown, tmp_path):
    _, result = case
    result.save(tmp_path / "result")
    type(result).load(tmp_path / "result").report(tmp_path / "loaded.html")
    loaded = Page((tmp_path / "loaded.html").read_text(encoding="utf-8"))
    assert (loaded.finding, loaded.figures, loaded.sections) == (shown.finding, shown.figures, shown.sections)


@dataclasses.dataclass(frozen=True, eq=False)
class Toy(Result):
    """A result of a caller's own."""

    kind: ClassVar[str] = "toy"
    size: float
    inner: wm.Run | None = None
    thing: object = dataclasses.field(default=None, metadata=NOT_SAVED)


def test_a_result_of_ones_own(tmp_path):
    toy = Toy(math.inf, CASES[wm.Run].make(), thing=object())
    toy.save(tmp_path / "toy")
    back = Toy.load(tmp_path / "toy")
    assert back.size == math.inf
    assert back.thing is None
    assert_same(back.inner, toy.inner)
    assert (tmp_path / "toy" / "inner" / "config.json").is_file()
    with pytest.raises(ResultError, match=r"nothing shows a Toy: register a view"):
        toy.plot()
    assert repr(toy).startswith("Toy(size=inf, inner=Run(…), thing=<object")
    assert "2.5" in Toy(2.5)._repr_html_()
    register_view(
        Toy,
        View(
            lambda of, axes: Figure() if of.size else None,
            lambda of, title: f"{title}: {of.size}",
            lambda of: [f"Its size is {of.size}."],
        ),
    )
    assert repr(Toy(2.5)) == "<Toy: Its size is 2.5.\n  size=2.5, inner=None, thing=None>"
    assert isinstance(toy.plot(), Figure)
    toy.report(tmp_path / "toy.html", "size")
    assert (tmp_path / "toy.html").read_text() == "size: inf"
    with pytest.raises(ResultError, match="holds nothing that could be drawn"):
        Toy(0.0).plot()


def test_an_entry_without_outputs_or_curves_cannot_be_drawn():
    with pytest.raises(ResultError, match="holds nothing that could be drawn"):
        Entry("empty").plot()


def test_rows_are_points_and_within_them_outputs():
    columns = by_point({"a": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "b": torch.tensor([5, 6])})
    assert {name: column.tolist() for name, column in columns.items()} == {
        "point": [0, 0, 1, 1],
        "output": [0, 1, 0, 1],
        "a": [1.0, 2.0, 3.0, 4.0],
        "b": [5, 5, 6, 6],
    }
