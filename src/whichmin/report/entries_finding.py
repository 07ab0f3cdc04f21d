"""What came out, in sentences computed from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from whichmin.report.entry_view import EntryView, by_optimizer, mse, present, term_names
from whichmin.report.flips import Flips
from whichmin.report.numbers import duration, mean_sd, number, percent
from whichmin.report.optimizer_distances import OptimizerDistances
from whichmin.report.quantities import relative_deviation, train_mse

_PHRASES = {
    "initialization": "the initialization",
    "geometry": "the optimizer’s geometry",
    "history": "the optimizer’s changing preconditioner",
    "trajectory": "the way of training",
    "decay": "weight decay",
    "unconverged": "stopping before convergence",
    "curvature": "the curvature of the network",
    "drift": "the drift of the tangent features",
    "statistics": "the network’s running statistics",
}
_SMALL = 0.1


def headline(
    entries: Sequence[EntryView], contested: Flips | None, distances: OptimizerDistances | None = None
) -> list[str]:
    """The finding in a few sentences; means over entries where there are several, optimizer by optimizer."""
    groups = by_optimizer(entries)
    if groups:
        between = [] if distances is None else [distances.sentence, distances.miss]
        sentences = [_compared(groups), *between, _flips(contested)]
        return [s for s in sentences if s]
    sentences = [_training(entries), _test_error(entries), _terms(entries), _flips(contested)]
    return [s for s in sentences if s] or [
        "There is nothing to compare: no outputs, no targets and no terms were given."
    ]


def lazy_sentences(entries: Sequence[EntryView]) -> list[str]:
    """How far the network is from its linearization, and what follows for the reader."""
    sentences = []
    relative = present(relative_deviation(v) for v in entries)
    if relative:
        size = fmean(relative)
        text = (
            f"Put at its one-shot predicted parameters, the network’s test outputs are {percent(size)} of the targets’ "
        )
        text += "standard deviation away from the linearized prediction: "
        if size < 0.02:
            text += "it is lazy, and one linearization describes it."
        elif size < 0.1:
            text += "it is nearly lazy, and the linearized prediction holds to about that accuracy."
        else:
            text += "it is not lazy, its features turn; follow the path rather than trust one linearization."
        sentences.append(text)
    sentences += [text for text in (_measured(entries), _linearizations(entries)) if text]
    return sentences


def mean_waterfall(entries: Sequence[EntryView]) -> tuple[list[str], list[float]]:
    """The terms' names and the test error after each, a mean over entries; empty without test targets."""
    names = term_names(entries)
    partial = [errors for v in entries if (errors := v.partial_errors(names)) is not None]
    return (names, np.mean(partial, axis=0).tolist()) if partial else ([], [])


def _compared(groups: dict[str, list[EntryView]]) -> str:
    """The test error of each optimizer's networks."""
    errors = {}
    for name, part in groups.items():
        trained = present(v.test_mse("trained") for v in part)
        predicted = present(v.test_mse("relinearized" if v.relinearized else "linearized") for v in part)
        errors[name] = (trained, predicted)
    sure = any(trained for trained, _ in errors.values())
    errors_by_name = [
        f"{name} {mean_sd(trained or predicted)}"
        + (f" (predicted: {number(fmean(predicted), 2)})" if trained and predicted else "")
        for name, (trained, predicted) in errors.items()
        if trained or predicted
    ]
    names = list(groups)
    if not errors_by_name:
        return f"Compared are {', '.join(names[:-1])} and {names[-1]}."
    which = "test errors are" if sure else "predicted test errors are"
    return f"From the same initializations, the {which}: {'; '.join(errors_by_name)}."


def _of(values: Sequence[float], digits: int = 2) -> str:
    return number(fmean(values), digits)


def _training(entries: Sequence[EntryView]) -> str:
    runs = [v.run for v in entries if v.run is not None]
    reached = present(train_mse(v) for v in entries)
    if not runs or not reached:
        return ""
    steps = number(round(fmean(r.steps for r in runs)))
    many = f" (mean of {len(runs)})" if len(runs) > 1 else ""
    short = [r for r in runs if r.until is not None and not r.converged]
    if short and len(short) == len(runs):
        aim = _of([r.until for r in short if r.until is not None])
        return f"Training stopped at a mean square error of {_of(reached)} after {steps} steps{many}, short of {aim}."
    text = f"Training reached a mean square error of {_of(reached)} after {steps} steps{many}."
    return text + (f" {len(short)} of {len(runs)} runs stopped short of their aim." if short else "")


def _test_error(entries: Sequence[EntryView]) -> str:
    trained = present(v.test_mse("trained") for v in entries)
    kind = "relinearized" if any("relinearized" in v.outputs for v in entries) else "linearized"
    predicted = present(v.test_mse(kind) for v in entries)
    several = len(trained or predicted) > 1
    if not trained and not predicted:
        return _outputs_only(entries, kind)
    if not predicted:
        return f"Its test error is {mean_sd(trained)}."
    if not trained:
        estimate = fmean(p.error for v in entries if (p := v.prediction) is not None)
        return (
            f"Without training, in {_took(entries)}, the predicted minimizer has test error {mean_sd(predicted)}; "
            f"it is estimated to be {number(estimate, 2)} (root mean square) from the trained network."
        )
    its = "Its test error is" if not several else "The test error is"
    took = [v.run.seconds for v in entries if v.run is not None]
    return (
        f"{its} {mean_sd(trained)}; the predicted minimizer, found in {_took(entries)} instead of "
        f"{duration(fmean(took))}, says {mean_sd(predicted)}."
    )


def _took(entries: Sequence[EntryView]) -> str:
    return duration(fmean(p.seconds for v in entries if (p := v.prediction) is not None))


def _outputs_only(entries: Sequence[EntryView], kind: str) -> str:
    """No test targets: how far the prediction is from the trained network."""
    gaps = present(mse(v.outputs.get(kind), v.outputs.get("trained")) for v in entries)
    if gaps:
        return (
            f"The predicted minimizer, found in {_took(entries)}, is {number(fmean(gaps) ** 0.5, 2)} (root mean square "
            "on the test points) from the trained network."
        )
    estimates = [p.error for v in entries if (p := v.prediction) is not None]
    if not estimates:
        return ""
    return (
        f"The minimizer was predicted in {_took(entries)}; it is estimated to be {_of(estimates)} (root mean square) "
        "from the trained network."
    )


def _terms(entries: Sequence[EntryView]) -> str:
    names, errors = mean_waterfall(entries)
    if len(names) < 2 or not errors[-1] > 0:
        return ""
    changes = np.diff(errors)
    k = int(np.abs(changes).argmax())
    change, before, after, total = float(changes[k]), errors[k], errors[k + 1], errors[-1]
    cause = _PHRASES.get(names[k + 1], f"the term “{names[k + 1]}”")
    if abs(change) < _SMALL * total:
        base = f"Nearly all of it is the {names[0]}’s, {number(errors[0], 2)}"
        return f"{base}: no other term moved it by as much as {percent(_SMALL)}."
    if 0 < change <= total:
        share = f"{percent(change / total)} of the test error was put there by {cause}"
        return f"{share}; the {names[0]} alone would have {number(errors[0], 2)}."
    verb = "raised" if change > 0 else "lowered"
    text = f"{cause[0].upper()}{cause[1:]} {verb} the test error from {number(before, 2)} to {number(after, 2)}"
    return text + ("." if k + 2 == len(names) else f"; with the terms after it, it ends at {number(total, 2)}.")


def _flips(contested: Flips | None) -> str:
    if contested is None or not contested.total:
        return ""
    points = "test point is" if contested.total == 1 else "test points are"
    return f"{contested.total:,} {points} decided differently by different entries."


def _measured(entries: Sequence[EntryView]) -> str:
    """The predictions' distance to the trained network, in standard deviations of the targets."""
    parts = []
    for kind, words in (("linearized", "the linearized prediction"), ("relinearized", "the prediction along the path")):
        roots = [
            gap**0.5 / p.target_std
            for v in entries
            if (p := v.linearized or v.relinearized) is not None
            and p.target_std > 0
            and (gap := mse(v.outputs.get(kind), v.outputs.get("trained"))) is not None
        ]
        if roots:
            parts.append(f"{words} is {percent(fmean(roots))}")
    if not parts:
        return ""
    return f"Measured on the test points, {' and '.join(parts)} of that standard deviation from the trained network."


def _linearizations(entries: Sequence[EntryView]) -> str:
    predictions = [v.relinearized for v in entries if v.relinearized is not None]
    intervals = [p.intervals for p in predictions if p.method != "trained"]
    if not intervals:
        return ""
    low, high = min(intervals), max(intervals)
    count = str(low) if low == high else f"{low} to {high}"
    return f"The path was followed with {count} linearization{'s' if high > 1 else ''}."
