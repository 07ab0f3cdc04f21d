"""The sentences about entries say their numbers, each from where it belongs."""

from __future__ import annotations

import dataclasses
import math
from statistics import fmean

import pytest
import torch

from oracles.builders import N_TEST, make_entry, make_task
from oracles.pages import Page
from whichmin.dynamics.prediction import Certificate
from whichmin.report import Entry
from whichmin.report.entries_finding import headline, lazy_sentences, mean_waterfall
from whichmin.report.entry_view import entry_views
from whichmin.report.flips import flips
from whichmin.report.numbers import accuracy, duration, mean_sd, number, percent
from whichmin.report.pages.entries import entries_page
from whichmin.report.quantities import laziness_rows, summary


def rightly(outputs, target) -> float:
    return float(((outputs > 0) == (target > 0)).double().mean())


def rms(one, other) -> float:
    return float((one.double() - other.double()).square().mean().sqrt())


def spread(entry: Entry, std: float) -> Entry:
    """With targets of another standard deviation."""
    parts = {name: dataclasses.replace(getattr(entry, name), target_std=std) for name in ("linearized", "relinearized")}
    return dataclasses.replace(entry, **parts)


def rows(entries: list[Entry]) -> dict[str, tuple[float | None, ...]]:
    views = entry_views(entries)
    groups = summary(views) + laziness_rows(views)
    return {
        ("accuracy, " * (group.name == "Accuracy")) + row.name: row.values for group in groups for row in group.rows
    }


def test_what_was_measured_is_a_root_over_the_targets_standard_deviation():
    entries = [spread(make_entry(0), 2.0), spread(make_entry(1), 0.5)]
    text = " ".join(lazy_sentences(entry_views(entries)))
    one, path = (
        percent(fmean(rms(getattr(e, kind).test, e.run.test) / e.linearized.target_std for e in entries))
        for kind in ("linearized", "relinearized")
    )
    assert (
        f"Measured on the test points, the linearized prediction is {one} and the prediction along the path is {path} "
        "of that standard deviation from the trained network." in text
    )
    assert one != path


def test_the_certificate_is_a_root_over_the_targets_standard_deviation():
    entry = spread(make_entry(), 0.5)
    assert f"are {percent(math.sqrt(1.5e-3) / 0.5)} of the targets’ standard" in " ".join(
        lazy_sentences(entry_views([entry]))
    )


@pytest.mark.parametrize(
    ("deviation", "words"),
    [(0.019, "it is lazy,"), (0.021, "it is nearly lazy"), (0.099, "it is nearly lazy"), (0.101, "it is not lazy")],
)
def test_how_lazy_a_network_is(deviation, words):
    whole = make_entry()
    certificate = Certificate(0.0, deviation**2)
    entry = dataclasses.replace(whole, linearized=dataclasses.replace(whole.linearized, certificate=certificate))
    assert words in " ".join(lazy_sentences(entry_views([entry])))


def test_linearizations_are_counted():
    assert "The path was followed with 12 to 14 linearizations." in lazy_sentences(
        entry_views([make_entry(seed) for seed in range(3)])
    )
    assert "with 12 linearizations." in " ".join(lazy_sentences(entry_views([make_entry()])))


def test_what_is_estimated_without_training_is_that_of_the_better_prediction():
    whole = make_entry()
    bare = Entry("a", linearized=whole.linearized, relinearized=whole.relinearized, task=whole.run.task)
    (text,) = headline(entry_views([bare]), None)
    error = float((whole.relinearized.test - whole.run.task.y_test).square().mean())
    right = accuracy(rightly(whole.relinearized.test, whole.run.task.y_test))
    assert text == (
        f"Without training, in {duration(0.12)}, the predicted minimizer has test error {mean_sd([error])} and "
        f"accuracy {right}; it is estimated to be 0.0080 (root mean square of outputs) from the trained network."
    )


def test_test_errors_and_times_are_told_of_what_they_are():
    entries = [make_entry(seed) for seed in range(3)]
    text = " ".join(headline(entry_views(entries), None))
    trained, predicted = (
        mean_sd([rms(getattr(e, part).test, e.run.task.y_test) ** 2 for e in entries])
        for part in ("run", "relinearized")
    )
    right, right_predicted = (
        accuracy(fmean(rightly(getattr(e, part).test, e.run.task.y_test) for e in entries))
        for part in ("run", "relinearized")
    )
    assert (
        f"The test error is {trained}, the accuracy {right}; the predicted minimizer, found in {duration(0.12)} "
        f"instead of {duration(4.5)}, says {predicted} and {right_predicted}."
    ) in text


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1.0, "found in 1.0\u00a0s instead of 4.0\u00a0s, says"),
        (4.0, "found in 4.0\u00a0s, no faster than training in 4.0\u00a0s, says"),
        (8.0, "found in 8.0\u00a0s, no faster than training in 4.0\u00a0s, says"),
    ],
)
def test_a_prediction_that_took_longer_than_training_is_not_said_to_stand_in_its_place(seconds, words):
    whole = make_entry()
    run = dataclasses.replace(whole.run, seconds=4.0)
    entry = dataclasses.replace(
        whole, run=run, relinearized=dataclasses.replace(whole.relinearized, seconds=seconds), explanation=None
    )
    assert words in " ".join(headline(entry_views([entry]), None))


@pytest.mark.usefixtures("undrawn")
def test_a_prediction_by_training_is_not_said_to_do_without():
    whole = make_entry()
    for method, words in (("trained", "By training a copy, in"), ("relinearized", "Without training, in")):
        predicted = dataclasses.replace(whole.relinearized, method=method)
        entry = dataclasses.replace(whole, run=None, relinearized=predicted, task=whole.run.task, explanation=None)
        assert " ".join(headline(entry_views([entry]), None)).startswith(words)
        beside = dataclasses.replace(whole, relinearized=predicted, explanation=None)
        says = "; the prediction, by training in" if method == "trained" else "; the predicted minimizer, found in"
        assert says in " ".join(headline(entry_views([beside]), None))
    for method, words in (("trained", "By training a copy, in"), ("relinearized", "The minimizer was predicted in")):
        bare = Entry("a", relinearized=dataclasses.replace(whole.relinearized, method=method))
        assert " ".join(headline(entry_views([bare]), None)).startswith(words)


def test_without_test_targets_the_distance_is_a_root():
    whole = make_entry(task=make_task(targets=False))
    text = " ".join(headline(entry_views([whole]), None))
    apart = number(rms(whole.relinearized.test, whole.run.test), 2)
    assert f"is {apart} (root mean square of outputs on the test points)" in text
    bare = Entry("a", linearized=whole.linearized, relinearized=whole.relinearized)
    assert "estimated to be 0.0080 (root mean square of outputs) from the trained network." in " ".join(
        headline(entry_views([bare]), None)
    )


def test_the_distance_is_the_root_of_a_mean():
    """Over entries as over test points: of 0.1 and 0.7 it is 0.5."""
    whole = make_entry(task=make_task(targets=False))
    entries = [
        Entry(
            f"seed {i}", run=whole.run, relinearized=dataclasses.replace(whole.relinearized, test=whole.run.test + gap)
        )
        for i, gap in enumerate((0.1, 0.7))
    ]
    assert "is 0.50 (root mean square of outputs on the test points)" in " ".join(headline(entry_views(entries), None))


def test_runs_that_stopped_short_are_counted():
    entries = [make_entry(seed) for seed in range(3)]
    entries[1] = dataclasses.replace(entries[1], run=dataclasses.replace(entries[1].run, converged=False))
    reached = fmean(rms(e.run.train, e.run.task.y) ** 2 for e in entries)
    assert headline(entry_views(entries), None)[0] == (
        f"Training brought the MSE to {number(reached, 2)} in 3,017 steps (mean of 3). 1 of 3 runs "
        "stopped short of their aim."
    )


def test_several_optimizers_have_a_test_error_each():
    entries = [
        dataclasses.replace(make_entry(k), optimizer=name, member=f"seed {k % 2}")
        for k, name in enumerate(("sgd", "sgd", "adam", "adam"))
    ]

    def errors(part: str, places: tuple[int, int]) -> list[float]:
        return [rms(getattr(entries[i], part).test, entries[i].run.task.y_test) ** 2 for i in places]

    parts = [
        f"{name} {mean_sd(errors('run', places))} (predicted: {number(fmean(errors('relinearized', places)), 2)})"
        for name, places in (("sgd", (0, 1)), ("adam", (2, 3)))
    ]

    def right(part: str, places: tuple[int, int]) -> str:
        return accuracy(fmean(rightly(getattr(entries[i], part).test, entries[i].run.task.y_test) for i in places))

    accuracies = [
        f"{name} {right('run', places)} (predicted: {right('relinearized', places)})"
        for name, places in (("sgd", (0, 1)), ("adam", (2, 3)))
    ]
    assert headline(entry_views(entries), None) == [
        f"From the same initializations, the test errors are: {'; '.join(parts)}. The accuracies are: "
        f"{'; '.join(accuracies)}."
    ]


@pytest.mark.parametrize(("share", "told"), [(0.08, False), (0.12, True), (0.19, True)])
def test_a_term_is_told_from_a_tenth_of_the_test_error_on(share, told):
    """The interpolant misses by 1, the sum of all by the square root of 1/(1 − share)."""
    whole, target = make_entry(), make_task().y_test
    terms = {"interpolant": 0 * target, "drift": (1 - (1 - share) ** -0.5) * target}
    entry = Entry("a", explanation=dataclasses.replace(whole.explanation, terms=terms))
    text = " ".join(headline(entry_views([entry]), None))
    assert (f"{percent(share)} of the test error was put there by the drift of the tangent features" in text) is told
    assert ("Nearly all of it is the interpolant’s, 1.0: no other term moved it by as much as" in text) is not told


def test_how_lazy_networks_are_is_a_mean():
    whole, entries = make_entry(), []
    for deviation in (0.02, 0.06):
        certificate = Certificate(0.0, deviation**2)
        entries.append(Entry("a", linearized=dataclasses.replace(whole.linearized, certificate=certificate)))
    assert f"are {percent(0.04)} of the targets’ standard" in " ".join(lazy_sentences(entry_views(entries)))


def test_the_table_says_each_number_from_where_it_belongs():
    entries = [make_entry(seed) for seed in range(2)]
    found = rows(entries)
    for i, e in enumerate(entries):
        target = e.run.task.y_test
        expected = {
            "trained network": rms(e.run.test, target) ** 2,
            "predicted, one linearization": rms(e.linearized.test, target) ** 2,
            "predicted, along the path": rms(e.relinearized.test, target) ** 2,
            "the interpolant alone": e.explanation.test_error()["loss"][0],
            "one linearization, measured": rms(e.linearized.test, e.run.test) ** 2,
            "one linearization, estimated": 0.06**2,
            "along the path, measured": rms(e.relinearized.test, e.run.test) ** 2,
            "along the path, estimated": 0.008**2,
            "training loss at the end (MSE)": rms(e.run.train, e.run.task.y) ** 2,
            "steps, trained": e.run.steps,
            "steps, predicted": e.relinearized.steps,
            "learning rate": 0.4,
            "to train": e.run.seconds,
            "to predict, one linearization": 0.031,
            "to predict, along the path": 0.12,
            "training time over prediction time": e.run.seconds / 0.12,
            "training loss at the one-shot parameters (MSE)": 2e-3,
            "test deviation from the linearized prediction (mean square)": 1.5e-3 * (1 + i),
            "the same, root mean square over the targets’ standard deviation": math.sqrt(1.5e-3 * (1 + i)),
            "linearizations along the path": 12 + i,
            **e.explanation.shares(),
        }
        sums = torch.stack(list(e.explanation.terms.values())).double().cumsum(0)
        names = ("the interpolant alone", *(f"the terms up to {name}" for name in list(e.explanation.terms)[1:-1]))
        judged = {"trained network": e.run.test, "predicted, one linearization": e.linearized.test}
        judged |= {"predicted, along the path": e.relinearized.test} | dict(zip(names, sums[:-1], strict=True))
        expected |= {f"accuracy, {name}": rightly(outputs, target) for name, outputs in judged.items()}
        assert {name: values[i] for name, values in found.items()} == pytest.approx(expected)


def test_points_that_are_decided_rightly_are_those_on_their_side_of_the_threshold():
    whole, task = make_entry(), make_task()
    outputs = task.y_test.clone()
    outputs[[2, 5, 7]] *= -1
    entry = Entry("a", run=dataclasses.replace(whole.run, test=outputs))
    assert rows([entry])["accuracy, trained network"] == (57 / 60,)


def decided(trained: list[torch.Tensor], predicted: list[torch.Tensor]) -> str:
    """What is said of entries whose networks, trained and predicted, have these test outputs."""
    whole = make_entry()
    entries = [
        Entry(
            f"seed {i}",
            run=dataclasses.replace(whole.run, test=t.reshape(N_TEST, 1)),
            relinearized=dataclasses.replace(whole.relinearized, test=p.reshape(N_TEST, 1)),
        )
        for i, (t, p) in enumerate(zip(trained, predicted, strict=True))
    ]
    found = flips(entry_views(entries))
    assert found is not None
    return found.text


def flipped(*points: int) -> torch.Tensor:
    outputs = torch.ones(N_TEST)
    outputs[list(points)] = -1.0
    return outputs


def test_points_are_foreseen_only_where_they_are_contested():
    one = flipped()
    text = decided([one, flipped(1, 2, 3)], [one, flipped(2, 3, 10, 11, 12, 13)])
    agreement = percent(1 - 5 / (2 * N_TEST))
    assert f"The predictions along the path decide as the trained networks in {agreement} of all cases" in text
    assert text.endswith("and foresee 2 of these 3 points.")
    assert decided([one, flipped(1, 2)], [one, flipped(1, 2, 9)]).endswith("and foresee all of these points.")
    assert "disagree on 3 of 60 test points (5 %)" in decided([one, flipped(1, 2, 3)], [one, one]).replace(
        "\u00a0", " "
    )


def test_where_none_is_contested_none_is_foreseen():
    text = decided([flipped(4), flipped(4)], [flipped(4), flipped(5)])
    assert "agree on every one of the 60 test points" in text
    assert "foresee" not in text
    assert text.endswith("of all cases.")


@pytest.mark.usefixtures("undrawn")
def test_what_the_terms_do_is_a_mean_over_entries():
    entries = [make_entry(seed) for seed in range(3)]
    errors = [e.explanation.test_error()["loss"] for e in entries]
    first, second, *_, last = (fmean(column) for column in zip(*errors, strict=True))
    names, means = mean_waterfall(entry_views(entries))
    assert names == list(entries[0].explanation.terms)
    assert means == pytest.approx([fmean(column) for column in zip(*errors, strict=True)])
    assert headline(entry_views(entries), None)[-1] == (
        f"{percent((second - first) / last)} of the test error was put there by the initialization; the interpolant "
        f"alone would have {number(first, 2)}."
    )
    assert mean_waterfall(entry_views([make_entry(task=make_task(targets=False))])) == ([], [])


@pytest.mark.usefixtures("undrawn")
def test_the_largest_change_may_be_a_fall():
    """From 1.0 by 0.21 up, by 0.85 down to what is left."""
    whole, target = make_entry(), make_task().y_test
    terms = {"interpolant": 0 * target, "initialization": -0.1 * target, "drift": 0.5 * target}
    entry = Entry("a", explanation=dataclasses.replace(whole.explanation, terms=terms))
    text = headline(entry_views([entry]), None)[-1]
    assert text == "The drift of the tangent features lowered the test error from 1.2 to 0.36."


@pytest.mark.usefixtures("undrawn")
def test_the_largest_change_is_the_one_that_is_told():
    whole, target = make_entry(), make_task().y_test
    terms = {"interpolant": 0.9 * target, "initialization": 0.4 * target, "drift": -0.1 * target}
    page = Page(entries_page([Entry("a", explanation=dataclasses.replace(whole.explanation, terms=terms))]))
    assert (
        "The initialization raised the test error from 0.010 to 0.090; with the terms after it, it ends at 0.040."
        in (page.finding)
    )


@pytest.mark.usefixtures("undrawn")
def test_an_interpolant_that_alone_is_no_better_is_not_said_to_be():
    """From 0.0400 by 0.0100 up, by 0.0055 and 0.0050 down."""
    whole, target = make_entry(), make_task().y_test
    sums = [1 - error**0.5 for error in (0.04, 0.05, 0.0445, 0.0395)]
    names = ("interpolant", "initialization", "curvature", "drift")
    terms = {
        name: after * target - before * target for name, before, after in zip(names, [0, *sums], sums, strict=False)
    }
    page = Page(entries_page([Entry("a", explanation=dataclasses.replace(whole.explanation, terms=terms))]))
    assert (
        "The initialization raised the test error from 0.040 to 0.050; with the terms after it, it ends at 0.040."
        in page.finding
    )
