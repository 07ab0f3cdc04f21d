"""What came out of a search for a better minimizer, in sentences and in the cells of its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from whichmin.mitigation.as_it_is import NAME
from whichmin.mitigation.mitigation import Mitigation
from whichmin.mitigation.outcome import Search, title_of
from whichmin.report.numbers import MISSING, duration, number, percent, signed

#: The columns that say what a remedy costs.
_COSTS = ("parameters", "forward passes", "steps", "seconds")
#: A cell of a table, made of the numbers of a row.
Cell = Callable[[Mapping[str, Any]], str]


def finding(mitigation: Mitigation) -> list[str]:
    """The answer: which remedy, what it brings, and why."""
    best, base = mitigation.best, mitigation[NAME]
    loss = mitigation.validation.test_loss
    label = mitigation.task.loss.label
    if base.predicted is None:
        return [f"The network as it is could not be predicted: {base.failure}"]
    if best == NAME:
        return [_leave_it(mitigation)]
    gain, remedy = mitigation.gain(best), mitigation[best]
    assert remedy.predicted is not None
    before, after = (loss(outcome.validation.double()) for outcome in (base.predicted, remedy.predicted))
    scale = f" at scale {number(remedy.search.scale, 2)}" if remedy.search is not None else ""
    told = (
        f"Take {title_of(best)}{scale}: it is predicted to bring the validation {label} from {number(before)} to "
        f"{number(after)} (p = {number(gain.p, 2)})."
    )
    if remedy.trained is None:
        return [told, "Nothing was trained." if not remedy.failure else f"Training it failed: {remedy.failure}"]
    return [told, f"Trained, it has {number(loss(remedy.trained.validation.double()))}."]


def _leave_it(mitigation: Mitigation) -> str:
    """Why the network is left as it is."""
    lowest = mitigation.lowest
    if len(mitigation.remedies) == 1:
        return "No remedy was tried."
    if lowest == NAME:
        return "Leave it as it is: no remedy is predicted to lower the validation loss."
    gain = mitigation.gain(lowest)
    what = f"the largest predicted gain, {number(gain.gain)} by {title_of(lowest)}, "
    if not gain.gain > gain.error:
        return f"Leave it as it is: {what}is below what the predictions may be off by, {number(gain.error)}."
    return f"Leave it as it is: {what}is not significant (p = {number(gain.p, 2)})."


def remedy_columns(mitigation: Mitigation) -> dict[str, Cell]:
    """The columns of the table of remedies that have anything to say."""
    rows = mitigation.to_frame().to_dict("records")
    label = mitigation.task.loss.label

    def known(name: str) -> bool:
        return any(not _is_missing(row[name]) for row in rows)

    columns: dict[str, Cell] = {}
    for of in ("validation", "test"):
        for kind in ("predicted", "trained"):
            if known(f"{of}_{kind}"):
                columns[f"{of} {label}, {kind}"] = _with_error(f"{of}_{kind}", f"{of}_se_{kind}")
            if known(f"{of}_accuracy_{kind}"):
                columns[f"{of} accuracy, {kind}"] = _cell(f"{of}_accuracy_{kind}", percent)
    columns["gain"] = _cell("gain", signed)
    columns["p"] = _cell("p", lambda value: number(value, 2))
    columns["error of the prediction"] = _cell("error", number)
    for kind in ("predicted", "trained"):
        if known(f"distance_{kind}"):
            columns[f"distance to the interpolator, {kind}"] = _cell(f"distance_{kind}", number)
    columns["parameters"] = _cell("parameters", lambda value: f"+{number(int(value))}")
    columns["forward passes"] = _cell("passes", lambda value: number(int(value)))
    columns["steps"] = _cell("extra_steps", lambda value: ("+" if value > 0 else "") + number(round(value)))
    columns["seconds"] = _cell("extra_seconds", _seconds)
    columns["significant"] = _verdict
    return columns


def brief_tables(mitigation: Mitigation) -> list[list[list[str]]]:
    """The losses, and the costs, as rows of texts with a header, for a terminal."""
    rows = mitigation.to_frame().to_dict("records")
    losses: dict[str, Cell] = {}
    for of in ("validation", "test"):
        losses[of] = _with_error(f"{of}_predicted", f"{of}_se_predicted")
        losses[f"{of}, trained"] = _with_error(f"{of}_trained", f"{of}_se_trained")
    losses |= {"p": _cell("p", lambda value: number(value, 2)), "significant": _verdict}
    costs: dict[str, Cell] = {"error": _cell("error", number), "distance": _cell("distance_predicted", number)}
    if not all(_is_missing(row["validation_accuracy_predicted"]) for row in rows):
        costs["accuracy"] = _cell("validation_accuracy_predicted", percent)
        costs["of the test"] = _cell("test_accuracy_predicted", percent)
    costs |= {name: text for name, text in remedy_columns(mitigation).items() if name in _COSTS}
    title = mitigation.task.loss.label
    return [
        [[first, *columns], *([_row_title(row), *(text(row) for text in columns.values())] for row in rows)]
        for first, columns in ((title, losses), ("predicted", costs))
    ]


def remedy_rows(mitigation: Mitigation) -> list[tuple[str, list[str]]]:
    """Name and cells of each remedy, the interpolator first."""
    columns = remedy_columns(mitigation)
    rows = mitigation.to_frame().to_dict("records")
    return [(_row_title(row), [text(row) for text in columns.values()]) for row in rows]


def search_rows(search: Search, label: str) -> dict[str, Any]:
    """The table of a search by scale."""
    rows = [
        (
            number(scale, 3),
            [number(loss), MISSING if math.isnan(p) else number(p, 2), number(round(outcome.steps)), outcome.way],
        )
        for scale, loss, p, outcome in zip(search.scales, search.losses, search.p, search.outcomes, strict=True)
    ]
    return {"columns": [f"validation {label}", "p", "steps", "how"], "rows": rows}


def failures(mitigation: Mitigation) -> list[str]:
    """What could not be had, a sentence each."""
    return [f"{title_of(r.name)}: {r.failure}" for r in mitigation.remedies if r.failure]


def _row_title(row: Mapping[str, Any]) -> str:
    name = title_of(row["method"])
    return name if _is_missing(row["scale"]) else f"{name}, {number(row['scale'], 2)}"


def _cell(name: str, text: Callable[[float], str]) -> Cell:
    return lambda row: MISSING if _is_missing(row[name]) else text(float(row[name]))


def _with_error(name: str, error: str) -> Cell:
    def text(row: Mapping[str, Any]) -> str:
        if _is_missing(row[name]):
            return MISSING
        off = "" if _is_missing(row[error]) else f" ± {number(row[error], 2)}"
        return number(float(row[name])) + off

    return text


def _seconds(value: float) -> str:
    if value == 0:
        return "0"
    return f"{'−' if value < 0 else '+' if value > 0 else ''}{duration(abs(value))}"


def _verdict(row: Mapping[str, Any]) -> str:
    if row["failure"]:
        return "failed"
    return {True: "yes", False: "no", None: ""}[row["significant"]]


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
