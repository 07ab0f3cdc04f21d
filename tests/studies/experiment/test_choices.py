"""Experiments of several values, taken apart."""

from __future__ import annotations

import pytest

from whichmin.errors import ConfigError
from whichmin.studies.experiment import Experiment
from whichmin.studies.experiment.choices import choices_of, varied


def test_one_of_everything_is_one_choice():
    (choice,) = choices_of(Experiment(hidden=(8, 8), scale=0.5, batch_size=4, optimizer="adam"))
    assert (choice.name, choice.recipe, choice.network) == ("adam", "adam", "")
    assert choice.experiment == Experiment(hidden=(8, 8), scale=0.5, batch_size=4, optimizer="adam")
    assert varied(choice.experiment) == {}


def test_every_network_with_every_recipe():
    asked = Experiment(hidden=[[8], [4, 4]], scale=[0.5, 1], optimizer="sgd,adam:betas=0.9/0.99", batch_size=[None, 7])
    choices = choices_of(asked)
    assert len({choice.name for choice in choices}) == len(choices) == 16
    assert choices[0].name == "sgd, full batch, hidden 8, scale 0.5"
    assert choices[-1].name == "adam betas=0.9/0.99, batch 7, hidden 4-4, scale 1"
    last = choices[-1].experiment
    assert (last.layers, last.scale, last.batch_size) == ((4, 4), 1.0, 7)
    assert choices[-1].optimizer == asked.optimizer[1]
    assert varied(asked) == {"hidden": 2, "scale": 2, "optimizer": 2, "batch_size": 2}
    assert Experiment.from_mapping(asked.to_dict()).to_dict() == asked.to_dict()


def test_networks_of_one_recipe_have_their_own_names():
    assert [choice.name for choice in choices_of(Experiment(scale=[0.5, 1]))] == ["scale 0.5", "scale 1"]


def test_several_rates_of_one_optimizer():
    asked = Experiment(optimizer="sgd:momentum=0.9", lr=[0.1, 0.2])
    assert [choice.name for choice in choices_of(asked)] == ["sgd momentum=0.9 lr=0.1", "sgd momentum=0.9 lr=0.2"]
    assert varied(asked) == {"lr": 2}


def test_a_model_of_the_callers_has_ways_to_train():
    choices = choices_of(Experiment(model="there:make", optimizer="sgd,adam"))
    assert [choice.name for choice in choices] == ["sgd", "adam"]


def test_initializations_by_number():
    assert Experiment(seeds=3).initializations == (0, 1, 2)
    assert Experiment(seeds=[4, 1]).initializations == (4, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden": [[8], [8]]}, "hidden has 8 twice; expected different values. Two layers of 8 are one network, 8-8"),
        ({"hidden": [[8], 8]}, "expected a list of widths such as"),
        ({"hidden": [[8], []]}, "expected a list of widths such as"),
        ({"scale": [1, 1.0]}, "scale has 1.0 twice"),
        ({"scale": []}, "scale is"),
        ({"scale": [0.5, -1]}, "expected a positive number, or a list of them"),
        ({"batch_size": ["none", 100]}, "batch_size has none twice"),
        ({"batch_size": [3, 0]}, "expected a whole number of rows"),
        ({"seeds": [1, 1]}, "seeds has 1 twice"),
        ({"seeds": []}, "expected how many initializations, 1 or more, or a list of their numbers"),
        ({"seeds": True}, "seeds is True"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Experiment(**values)
