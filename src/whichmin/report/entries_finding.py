"""What came out, in sentences computed from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from whichmin.report.entry_view import (
    EntryView,
    by_optimizer,
    loss_label,
    mse,
    present,
    scale_of,
    term_names,
    way_of_all,
)
from whichmin.report.flips import Flips
from whichmin.report.numbers import accuracy, duration, mean_sd, number, percent
from whichmin.report.optimizer_distances import OptimizerDistances
from whichmin.report.quantities import relative_deviation, train_loss

_PHRASES = {
    "initialization": "the initialization",
    "geometry": "the optimizer’s geometry",
    "history": "the optimizer’s history",
    "trajectory": "the way of training",
    "decay": "weight decay",
    "unconverged": "stopping before convergence",
    "curvature": "the curvature of the network",
    "drift": "the drift of the tangent features",
    "statistics": "the network’s running statistics",
}
_SMALL = 0.1
_NO_TRAINING = "Without training"


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
            f"Put at its one-shot predicted parameters, the network’s test outputs are {percent(size)} of the "
            f"{scale_of(entries)} standard deviation away from the linearized prediction: "
        )
        if size < 0.02:
            text += "it is lazy, and one linearization describes it."
        elif size < 0.1:
            text += "it is nearly lazy, and the linearized prediction holds to about that accuracy."
        else:
            text += "it is not lazy, its features turn; follow the path rather than trust one linearization."
        sentences.append(text)
    sentences += [text for text in (_measured(entries), _linearizations(entries), _later(entries)) if text]
    return sentences


def _later(entries: Sequence[EntryView]) -> str:
    """What one linearization misses when it is made later, of the first entry that tells."""
    known = (v.explanation.later for v in entries if v.explanation is not None)
    later = next((found for found in known if found is not None and len(found.steps) > 1), None)
    if later is None:
        return ""
    steps, misses = later.steps.tolist(), later.misses.tolist()
    text = (
        f"One linearization at step {steps[0]:,} misses the trained test outputs by {number(misses[0], 2)} (root mean "
        f"square), one at step {steps[-1]:,} by {number(misses[-1], 2)}"
    )
    tenth = later.first_within(misses[0] / 10)
    if tenth is None:
        return f"{text}: at no step that was kept by less than a tenth of the first."
    return f"{text}: from step {tenth:,} on by less than a tenth of the first."


def mean_waterfall(entries: Sequence[EntryView]) -> tuple[list[str], list[float]]:
    """The terms' names and the test error after each, a mean over entries; empty without test targets."""
    names = term_names(entries)
    partial = [errors for v in entries if (errors := v.partial_errors(names)) is not None]
    return (names, np.mean(partial, axis=0).tolist()) if partial else ([], [])


def _compared(groups: dict[str, list[EntryView]]) -> str:
    """The test error of each optimizer's networks."""
    errors = _by_name(groups, EntryView.test_error, mean_sd, lambda values: number(fmean(values), 2))
    accuracies = _by_name(groups, EntryView.accuracy, _accuracy, _accuracy)
    names = list(groups)
    if not errors:
        return f"Compared are {', '.join(names[:-1])} and {names[-1]}."
    sure = any("trained" in v.outputs for part in groups.values() for v in part)
    which = "test errors are" if sure else "predicted test errors are"
    text = f"From the same initializations, the {which}: {errors}."
    return f"{text} The accuracies are: {accuracies}." if accuracies else text


def _by_name(
    groups: dict[str, list[EntryView]],
    number_of: Callable[[EntryView, str], float | None],
    text_of: Callable[[Sequence[float]], str],
    predicted_text: Callable[[Sequence[float]], str],
) -> str:
    """What is known of each optimizer: of its trained networks, in brackets what was predicted."""
    texts = []
    for name, part in groups.items():
        trained = present(number_of(v, "trained") for v in part)
        predicted = present(number_of(v, "relinearized" if v.relinearized else "linearized") for v in part)
        if trained or predicted:
            also = f" (predicted: {predicted_text(predicted)})" if trained and predicted else ""
            texts.append(f"{name} {text_of(trained or predicted)}{also}")
    return "; ".join(texts)


def _accuracy(values: Sequence[float]) -> str:
    return accuracy(fmean(values))


def _of(values: Sequence[float], digits: int = 2) -> str:
    return number(fmean(values), digits)


def _training(entries: Sequence[EntryView]) -> str:
    runs = [v.run for v in entries if v.run is not None]
    reached = present(train_loss(v) for v in entries)
    if not runs or not reached:
        return ""
    loss, steps = loss_label(entries), number(round(fmean(r.steps for r in runs)))
    many = f" (mean of {len(runs)})" if len(runs) > 1 else ""
    short = [r for r in runs if r.until is not None and not r.converged]
    if short and len(short) == len(runs):
        aim = _of([r.until for r in short if r.until is not None])
        return f"Training left the {loss} at {_of(reached)} after {steps} steps{many}, short of {aim}."
    text = f"Training brought the {loss} to {_of(reached)} in {steps} steps{many}."
    return text + (f" {len(short)} of {len(runs)} runs stopped short of their aim." if short else "")


def _test_error(entries: Sequence[EntryView]) -> str:
    trained = present(v.test_error("trained") for v in entries)
    kind = "relinearized" if any("relinearized" in v.outputs for v in entries) else "linearized"
    predicted = present(v.test_error(kind) for v in entries)
    right, right_predicted = (present(v.accuracy(name) for v in entries) for name in ("trained", kind))
    the, its = ("The", "the") if len(trained) > 1 else ("Its", "its")
    reached = f"{the} test error is {mean_sd(trained)}" + (f", {its} accuracy {_accuracy(right)}" if right else "")
    if not trained and not predicted:
        return _outputs_only(entries, kind)
    if not predicted:
        return f"{reached}."
    if not trained:
        estimate = fmean(p.error for v in entries if (p := v.prediction) is not None)
        return (
            f"{_without(entries)}, in {_took(entries)}, the predicted minimizer has test error {mean_sd(predicted)}"
            f"{f' and accuracy {_accuracy(right_predicted)}' if right_predicted else ''}; it is estimated to be "
            f"{number(estimate, 2)} (root mean square of outputs) from the trained network."
        )
    took = [v.run.seconds for v in entries if v.run is not None]
    if {p.method for v in entries if (p := v.prediction) is not None} == {"trained"}:
        found = f"prediction, by training in {_took(entries)},"
    else:
        found = f"predicted minimizer, found {_beside(entries, fmean(took))},"
    return (
        f"{reached}; the {found} says "
        f"{mean_sd(predicted)}{f' and {_accuracy(right_predicted)}' if right_predicted else ''}."
    )


def _took(entries: Sequence[EntryView]) -> str:
    return duration(_seconds(entries))


def _seconds(entries: Sequence[EntryView]) -> float:
    return fmean(p.seconds for v in entries if (p := v.prediction) is not None)


def _beside(entries: Sequence[EntryView], training: float) -> str:
    """How long the predictions took, beside the seconds of training."""
    took, trained = _took(entries), duration(training)
    if _seconds(entries) < training and took != trained:
        return f"in {took} instead of {trained}"
    return f"in {took}, no faster than training in {trained}"


def _without(entries: Sequence[EntryView]) -> str:
    """Whether the predictions do without training."""
    methods = {p.method for v in entries if (p := v.prediction) is not None}
    if "trained" not in methods:
        return _NO_TRAINING
    return "By training a copy" if methods == {"trained"} else "In part by training copies"


def _outputs_only(entries: Sequence[EntryView], kind: str) -> str:
    """No test targets: how far the prediction is from the trained network."""
    gaps = present(mse(v.outputs.get(kind), v.outputs.get("trained")) for v in entries)
    if gaps:
        return (
            f"The predicted minimizer, found in {_took(entries)}, is {number(fmean(gaps) ** 0.5, 2)} (root mean square "
            "of outputs on the test points) from the trained network."
        )
    estimates = [p.error for v in entries if (p := v.prediction) is not None]
    if not estimates:
        return ""
    way, took = _without(entries), _took(entries)
    found = (
        f"The minimizer was predicted in {took}"
        if way == _NO_TRAINING
        else f"{way}, in {took}, the minimizer was found"
    )
    return f"{found}; it is estimated to be {_of(estimates)} (root mean square of outputs) from the trained network."


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
    if 0 < change <= total and errors[0] < total:
        share = f"{percent(change / total)} of the test error was put there by {cause}"
        return f"{share}; the {names[0]} alone would have {number(errors[0], 2)}."
    verb = "raised" if change > 0 else "lowered"
    text = f"{cause[0].upper()}{cause[1:]} {verb} the test error from {number(before, 2)} to {number(after, 2)}"
    return text + ("." if k + 2 == len(names) else f"; with the terms after it, it ends at {number(total, 2)}.")


def _flips(contested: Flips | None) -> str:
    if contested is None or not contested.total or not contested.classes:
        return ""
    points = "test point is" if contested.total == 1 else "test points are"
    return f"{contested.total:,} {points} decided differently by different entries."


def _measured(entries: Sequence[EntryView]) -> str:
    """The predictions' distance to the trained network, over ``Prediction.target_std``."""
    parts = []
    relinearized = f"the prediction {way_of_all(entries)}"
    for kind, words in (("linearized", "the linearized prediction"), ("relinearized", relinearized)):
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
