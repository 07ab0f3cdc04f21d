"""What a comparison says of its outputs, each number against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import whichmin as wm
from oracles.comparisons import comparison, problem
from whichmin.studies.comparison import notices
from whichmin.studies.effects import systematic_difference

PAIRS = [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.fixture(scope="module")
def whole():
    return comparison()


def rms(one, other):
    return (one - other).square().mean(dim=(1, 2)).sqrt()


def test_effects_are_those_of_their_own_choices_and_outputs(whole):
    assert list(whole.pairs) == PAIRS
    for (one, other), pair in whole.pairs.items():
        for kind, effect in (("predicted", pair.predicted), ("trained", pair.trained)):
            a, b = (getattr(whole, kind)[name] for name in (one, other))
            squared, _, p = systematic_difference((a - b).reshape(7, -1).numpy())
            assert effect.paired.distance.mean == pytest.approx(float(rms(a, b).mean()), rel=1e-12)
            assert effect.systematic.distance.mean == pytest.approx(math.sqrt(squared), rel=1e-12)
            assert effect.systematic.p == p
            assert effect.systematic.p_least == 3 / 64, "of three pairs"
            assert effect.flips == pytest.approx(float(((a > 0) != (b > 0)).double().mean()))
            assert (effect.seeds, effect.paired.level, effect.systematic.level) == (7, 0.05, 0.05)
        errors = [whole.errors[name].square().mean() for name in (one, other)]
        for answer in (pair.predicted.paired, pair.predicted.systematic):
            assert answer.error == pytest.approx(math.sqrt(float(sum(errors))), rel=1e-12)
        squares = sum(whole.trained[name].square().mean() for name in (one, other))
        eps = torch.finfo(whole.trained[one].dtype).eps
        assert pair.trained.paired.error == pytest.approx(math.sqrt(eps * float(squares)), rel=1e-6)
        assert pair.best is pair.trained


def test_what_is_asked_of_all_pairs_is_of_the_trained_networks(whole):
    for names, pair in whole.pairs.items():
        assert whole.rms_distances[names] == pair.trained.paired.distance
        assert whole.different[names] is pair.trained.paired.significant is True
        assert whole.significant[names] is pair.trained.systematic.significant is True
        assert whole.flips[names] == pair.trained.flips
    bare = comparison(trained=False)
    for names, pair in bare.pairs.items():
        assert pair.trained is None
        assert bare.rms_distances[names] == pair.predicted.paired.distance
        assert bare.flips[names] == pair.predicted.flips


def test_test_errors_are_of_the_trained_networks(whole):
    bare = comparison(trained=False)
    cases = [
        (whole.trained, whole.test_error),
        (whole.predicted, whole.test_error_of(whole.predicted)),
        (bare.predicted, bare.test_error),
    ]
    for outputs, found in cases:
        for name in whole.names:
            squares = (outputs[name] - whole.task.y_test).square().mean(dim=(1, 2))
            assert found[name].mean == pytest.approx(float(squares.mean()), rel=1e-12)
            assert found[name].low < found[name].mean < found[name].high


def test_test_errors_have_no_interval_below_the_lowest_loss():
    task = wm.Task(torch.ones(3, 1), torch.zeros(3), torch.ones(4, 1), torch.zeros(4))
    outputs = {name: torch.stack([torch.full((4, 1), size) for size in (0.1, 1.0)]) for name in ("a", "b")}
    errors = dict.fromkeys(outputs, torch.zeros(2, dtype=torch.float64))
    found = wm.Comparison(task, outputs, errors, None, errors, 0.05, 0.0).test_error["a"]
    assert found.mean == pytest.approx(0.505)
    assert found.high > 2 * found.mean
    assert found.low == 0


def test_accuracies_are_the_parts_that_are_decided_rightly(whole):
    for outputs, found in ((whole.trained, whole.accuracy), (whole.predicted, whole.accuracy_of(whole.predicted))):
        for name in whole.names:
            right = ((outputs[name] > 0) == (whole.task.y_test > 0)).double().mean(dim=(1, 2))
            assert found[name].mean == pytest.approx(float(right.mean()), rel=1e-12)
            assert 0 <= found[name].low <= found[name].mean <= found[name].high <= 1
    task = wm.Task(whole.task.X, whole.task.y, whole.task.X_test, torch.sign(whole.predicted["a"][0, :, 0]))
    nearly = {"a": whole.predicted["a"][[0, 0, 0]] * torch.tensor([1.0, 1.0, -1.0])[:, None, None]}
    bounded = wm.Comparison(task, nearly, {"a": torch.zeros(3)}, None, {"a": torch.zeros(3)}, 0.05, 0.0).accuracy["a"]
    assert (bounded.low, bounded.mean, bounded.high) == (0.0, pytest.approx(2 / 3), 1.0)


def test_class_numbers_are_judged_by_their_loss():
    base, generator = problem(), torch.Generator().manual_seed(1)
    y, y_test = torch.arange(10) % 3, torch.arange(14) % 3
    task = wm.Task(base.X, y, base.X_test, y_test, torch.nn.CrossEntropyLoss())
    outputs = {name: torch.randn(4, 14, 3, generator=generator, dtype=torch.float64) for name in "ab"}
    outputs["b"][2] = torch.nan
    errors = {name: torch.zeros(4, dtype=torch.float64) for name in "ab"}
    found = wm.Comparison(task, outputs, errors, None, errors, 0.05, 0.0)
    for name, seeds in (("a", (0, 1, 2, 3)), ("b", (0, 1, 3))):
        losses = [float(torch.nn.functional.cross_entropy(outputs[name][s], y_test)) for s in seeds]
        right = [float((outputs[name][s].argmax(1) == y_test).double().mean()) for s in seeds]
        assert found.test_error[name].mean == pytest.approx(sum(losses) / len(losses), rel=1e-12)
        assert found.accuracy[name].mean == pytest.approx(sum(right) / len(right), rel=1e-12)
    amounts = wm.Comparison(
        wm.Task(base.X, base.X[:, 0], base.X_test, base.X_test[:, 0]),
        {"a": outputs["a"][..., :1]},
        errors,
        None,
        errors,
        0.05,
        0.0,
    )
    assert amounts.accuracy is None


def test_only_the_seeds_that_both_choices_have_count():
    failed, whole = comparison(failed=(5, 6)), comparison()
    kept = slice(0, 5)
    for one, other in PAIRS:
        pair = failed.pairs[one, other]
        seeds = kept if other == "c" else slice(0, 7)
        a, b = (whole.predicted[name][seeds] for name in (one, other))
        assert pair.predicted.seeds == pair.trained.seeds == len(a)
        assert pair.predicted.paired.distance.mean == pytest.approx(float(rms(a, b).mean()), rel=1e-12)
        errors = [whole.errors[name][seeds].square().mean() for name in (one, other)]
        assert pair.predicted.paired.error == pytest.approx(math.sqrt(float(sum(errors))), rel=1e-12)
    assert failed.pairs["a", "c"].predicted.systematic.significant is None, "five seeds are too few"


def test_a_choice_with_a_single_seed_is_not_compared():
    failed = comparison(failed=tuple(range(6)))
    assert failed.pairs["a", "c"].best is None
    assert failed.significant["a", "c"] is failed.different["a", "c"] is None
    assert ("a", "c") not in failed.rms_distances
    assert failed.pairs["a", "b"].predicted.seeds == 7


@pytest.mark.parametrize("trained", [True, False])
def test_a_frame_holds_every_number_under_its_name(trained):
    found = comparison(trained=trained, failed=tuple(range(6)))
    frame = found.to_frame()
    assert list(zip(frame["one"], frame["other"], strict=True)) == PAIRS
    kinds = ("predicted", "trained") if trained else ("predicted",)
    answers = {"paired": ("rms_distance", "low", "high", "error", "p_different", "different")}
    answers["systematic"] = ("systematic", "systematic_low", "systematic_high", "error", "p", "significant")
    numbers = ("seed_std", "flips", "seeds")
    names = list(dict.fromkeys([*answers["paired"], *answers["systematic"], *numbers]))
    assert set(frame.columns) == {"one", "other"} | {f"{name}_{kind}" for name in names for kind in kinds}
    for row, pair in enumerate(found.pairs.values()):
        for kind in kinds:
            effect = getattr(pair, kind)
            cells = {name: frame.loc[row, f"{name}_{kind}"] for name in names}
            if effect is None:
                assert all(value is None or np.isnan(value) for value in cells.values())
                continue
            for question, columns in answers.items():
                answer = getattr(effect, question)
                said = [answer.distance.mean, answer.distance.low, answer.distance.high, answer.error]
                assert [cells[name] for name in columns] == [*said, answer.p_adjusted, answer.significant]
            assert [cells[name] for name in numbers] == [getattr(effect, name) for name in numbers]


def test_without_test_targets_there_is_no_test_error(whole):
    task = wm.Task(whole.task.X, whole.task.y, whole.task.X_test)
    bare = wm.Comparison(task, whole.predicted, whole.errors, None, whole.steps, 0.05, 0.0)
    assert bare.test_error is bare.accuracy is None
    assert bare.pairs["a", "b"].predicted.paired.distance == whole.pairs["a", "b"].predicted.paired.distance


def test_notices():
    assert notices(0.05, 6, 2) == notices(0.05, 9, 5) == []
    (said,) = notices(0.05, 5, 2)
    assert said == (
        "5 seeds cannot tell at level 0.05 whether recipes differ beyond the seed: the smallest p they can give is "
        "0.062. Take 6 seeds or more, or a level of 0.062 or more."
    )
    (said,) = notices(0.05, 8, 5)
    assert "the smallest p they can give, corrected for 10 pairs, is 0.078. Take 9 seeds or more" in said
    assert notices(0.5, 1, 2)[0].endswith("Take 2 seeds or more.")
    assert "Compare fewer recipes, or a level of" in notices(0.05, 15, 100)[0]


def test_outputs_that_are_nan_in_one_point_are_no_outputs(whole):
    predicted = {name: values.clone() for name, values in whole.predicted.items()}
    predicted["b"][2, 3, 0] = torch.nan
    found = wm.Comparison(whole.task, predicted, whole.errors, None, whole.steps, 0.05, 0.0)
    assert found.pairs["a", "b"].predicted.seeds == 6
    assert found.pairs["a", "c"].predicted.seeds == 7
