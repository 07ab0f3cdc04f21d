"""``compare``: ways to train beside each other, kept and reported."""

from __future__ import annotations

import math
import re
from functools import partial

import pytest
import torch

import whichmin as wm
from oracles.comparisons import ADAGRAD, SGD, SLOW, network, problem
from whichmin.dynamics.paths.real import BY_TRAINING
from whichmin.errors import DivergenceError, InputError, OptimizerError, OutputError
from whichmin.studies import answer
from whichmin.studies.initializations import few_threads


@pytest.fixture(scope="module")
def found():
    choices = {"gd": SGD, "again": SGD, "adagrad": ADAGRAD, "batches": wm.Recipe(SLOW, batch_size=3)}
    return wm.compare(network, problem(), choices, 6, until=3e-2)


def test_outputs_are_those_of_predict(found):
    task = problem()
    for seed in range(2):
        with few_threads(network(seed), task):  # rounding depends on their number
            full = wm.predict(network(seed), task, ADAGRAD, until=3e-2)
            alone = wm.predict(network(seed), task, SLOW, until=3e-2, batch_size=3, seed=1000 * seed)
        assert torch.equal(found.predicted["adagrad"][seed], full.test)
        assert torch.equal(found.predicted["batches"][seed], alone.test)
        assert found.errors["adagrad"][seed] == full.error
        # Of real training: which parts of it are made again hangs on the clock.
        assert found.errors["batches"][seed] == pytest.approx(alone.error, abs=1e-13)
    assert found.seeds == 6
    assert found.trained is None
    assert not found.failures


def test_the_same_optimizer_under_two_names_is_not_significant(found):
    assert found.rms_distances["gd", "again"].mean == 0
    assert found.significant["gd", "again"] is found.different["gd", "again"] is False
    assert found.flips["gd", "again"] == 0


def test_distances_and_test_errors(found):
    gap = (found.predicted["gd"] - found.predicted["adagrad"]).square().mean(dim=(1, 2)).sqrt()
    assert found.rms_distances["gd", "adagrad"].mean == pytest.approx(float(gap.mean()))
    assert found.rms_distances["gd", "adagrad"].low < float(gap.mean()) < found.rms_distances["gd", "adagrad"].high
    error = (found.predicted["gd"] - problem().y_test).square().mean()
    assert found.test_error["gd"].mean == pytest.approx(float(error))
    assert len(found.pairs) == 6
    effect = found.pairs["gd", "adagrad"].predicted
    squares = found.errors["gd"].square().mean() + found.errors["adagrad"].square().mean()
    assert effect.paired.error == effect.systematic.error == pytest.approx(math.sqrt(float(squares)))
    assert effect.systematic.significant in (None, False), "six pairs need more seeds"


def test_errors_and_steps_are_those_of_the_predictions(found):
    for name, factory in (("gd", SGD), ("adagrad", ADAGRAD)):
        with few_threads(network(3), problem()):
            alone = wm.predict(network(3), problem(), factory, until=3e-2)
        assert found.errors[name][3] == alone.error
        assert found.steps[name][3] == alone.steps
    assert found.settings == {"until": 3e-2, "steps": None, "tol": 1e-2}
    assert found.level == 0.05


@pytest.mark.slow
def test_predicted_effects_are_those_of_trained_networks():
    choices = [
        ("gd", partial(torch.optim.SGD, lr=0.2)),
        ("momentum", partial(torch.optim.SGD, lr=0.02, momentum=0.9)),
        ("adagrad", ADAGRAD),
    ]
    found = wm.compare(partial(network, width=256), problem(), choices, 6, train=True, until=1e-2)
    for names, pair in found.pairs.items():
        distances = pair.predicted.paired.distance.mean, pair.trained.paired.distance.mean
        assert distances[0] == pytest.approx(distances[1], rel=0.2, abs=0.02), names
        assert 0 < pair.trained.paired.error < 1e-3
    assert not found.pairs["gd", "momentum"].predicted.systematic.significant
    assert found.different["gd", "adagrad"] is found.pairs["gd", "adagrad"].predicted.paired.significant is True
    apart = found.rms_distances["gd", "adagrad"].mean
    assert apart > 3 * found.rms_distances["gd", "momentum"].mean
    assert apart > 3 * found.pairs["gd", "adagrad"].predicted.paired.error


def test_one_that_diverges_leaves_the_others():
    choices = {"gd": SGD, "wild": partial(torch.optim.SGD, lr=1e3), "adagrad": ADAGRAD}
    found = wm.compare(network, problem(), choices, 2, until=1e-1, train=True)
    said = [(f.recipe, f.seed, f.kind) for f in found.failures]
    assert said == [("wild", s, kind) for s in range(2) for kind in ("predicted", "trained")]
    assert "lr = 1000 diverges" in str(found.failures[0])
    assert found.pairs["gd", "wild"].best is None
    assert found.significant["gd", "wild"] is None
    assert ("gd", "wild") not in found.rms_distances
    assert found.rms_distances["gd", "adagrad"].mean > 0
    assert torch.isnan(found.predicted["wild"]).all()
    assert math.isnan(found.test_error["wild"].mean)


def test_nothing_but_failures():
    wild = partial(torch.optim.SGD, lr=1e3)
    with pytest.raises(DivergenceError, match="lr = 1000 diverges"):
        wm.compare(network, problem(), {"one": wild, "other": wild}, 2, until=1e-2)


def test_a_note_on_several_recipes_names_them_once():
    recipes = {name: wm.Recipe(ADAGRAD, batch_size=size) for name, size in (("small", 4), ("large", 8))}
    notes = wm.compare(network, problem(), recipes, 2, steps=20).notes
    assert [note for note in notes if BY_TRAINING in note] == [
        f"small, seed 0: {BY_TRAINING} Likewise 1 more seed; 2 seeds of large."
    ]


def test_too_few_seeds_for_the_level():
    found = wm.compare(network, problem(), {"gd": SGD, "adagrad": ADAGRAD}, 3, until=1e-1)
    assert re.search(r"3 seeds cannot tell at level 0\.05 .* smallest p .* is 0\.25\. Take 6 seeds", found.notes[0])
    assert found.significant["gd", "adagrad"] in (None, False)


def test_kept_answers_are_read_back(tmp_path, monkeypatch):
    choices = {"gd": SLOW, "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.5)}
    first = wm.compare(network, problem(), choices, 2, until=1e-1, out=tmp_path)
    runs = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert len(runs) == 4
    asked = []

    def counted(*args, **kwargs):
        asked.append(kwargs)
        return wm.predict(*args, **kwargs)

    monkeypatch.setattr(answer, "predict", counted)
    again = wm.compare(network, problem(), choices, 2, until=1e-1, out=tmp_path)
    assert not asked
    assert all(torch.equal(again.predicted[n], first.predicted[n]) for n in choices)
    assert again.errors["gd"].tolist() == first.errors["gd"].tolist()
    wm.compare(network, problem(), choices, 3, until=1e-1, out=tmp_path)
    assert len(asked) == 2, "only the new seed"
    (tmp_path / "runs" / runs[0] / "config.json").write_text("half")
    wm.compare(network, problem(), choices, 2, until=1e-1, out=tmp_path)
    assert len(asked) == 3, "a damaged one is made again"
    wm.compare(network, problem(), choices, 2, until=2e-1, out=tmp_path)
    assert len(asked) == 7, "another aim"
    wm.compare(network, problem(), choices, 2, until=1e-1, train=True, out=tmp_path)
    assert len(asked) == 7, "training as well leaves the predictions"


def test_saved(found, tmp_path):
    found.save(tmp_path / "comparison")
    back = wm.Comparison.load(tmp_path / "comparison")
    assert back.names == found.names
    assert back.pairs == found.pairs
    assert back.test_error == found.test_error
    assert back.settings == found.settings


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ([("a", SGD), ("a", ADAGRAD)], "two recipes named 'a'"),
        ({"a": SGD}, "got 1 recipe; expected"),
        ({}, "got 0 recipes; expected"),
        ([SGD, ADAGRAD], "not names with factories"),
        (SGD, "the recipes are functools.partial"),
        ("sgd,adam", "the recipes are 'sgd,adam'"),
        ({"a": SGD, "b": wm.Recipe(SGD, 0)}, "recipe 'b': batch_size is 0"),
    ],
)
def test_choices_that_cannot_be_used(choices, said):
    with pytest.raises(InputError, match=said):
        wm.compare(network, problem(), choices, 2)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (torch.optim.SGD(network(0).parameters(), lr=0.1), "recipe 'b': got a built SGD; expected a factory"),
        (network(0), "recipe 'b': got a network, MLP; expected an optimizer factory"),
        (partial(torch.optim.SGD, lr=-1), "recipe 'b': the optimizer factory failed"),
        (torch.optim.LBFGS, "recipe 'b': .*closure"),
    ],
    ids=["built", "network", "fails", "closure"],
)
def test_factories_that_cannot_be_used(bad, said):
    with pytest.raises(OptimizerError, match=said):
        wm.compare(network, problem(), {"a": SGD, "b": bad}, 2)


@pytest.mark.parametrize("level", [0, 1, -0.1, True, "5 %", math.nan])
def test_a_level_that_is_none(level):
    with pytest.raises(InputError, match=r"level is .*; expected a number between 0 and 1"):
        wm.compare(network, problem(), {"a": SGD, "b": ADAGRAD}, 2, level=level)


def test_training_without_an_end():
    with pytest.raises(InputError, match="training would have no end"):
        wm.compare(network, problem(), {"a": SGD, "b": ADAGRAD}, 2, until=None, train=True)


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write to"):
        wm.compare(network, problem(), {"a": SGD, "b": ADAGRAD}, 2, out=tmp_path / "file")


def test_networks_by_name():
    networks = {"narrow": network, "wide": lambda seed: network(seed, width=96)}
    found = wm.compare(networks, problem(), {"slow": SLOW, "fast": SGD}, [5, 2], steps=3, until=None)
    assert found.names == ("slow, narrow", "fast, narrow", "slow, wide", "fast, wide")
    assert (found.networks, found.seeds) == (("narrow", "wide"), 2)
    alone = wm.predict(networks["wide"](2), problem(), SLOW, steps=3, tol=1e-2)
    torch.testing.assert_close(found.predicted["slow, wide"][1], alone.test, rtol=0, atol=0)
    assert " ".join(found._finding()).startswith("From the same seed")


def test_one_recipe_of_several_networks():
    networks = {"narrow": network, "wide": lambda seed: network(seed, width=96)}
    found = wm.compare(networks, problem(), {"slow": SLOW}, 2, steps=3, until=None)
    assert found.names == ("narrow", "wide")
    with pytest.raises(InputError, match=r"got 0 recipes; .* one at least"):
        wm.compare(networks, problem(), {}, 2)


@pytest.mark.parametrize("seeds", [[3], [1, 1], [-1, 2], "ab"])
def test_lists_that_are_no_seeds(seeds):
    with pytest.raises(InputError, match="expected a whole number of initializations, 2 or more, or a list"):
        wm.compare(network, problem(), {"slow": SLOW, "fast": SGD}, seeds)
