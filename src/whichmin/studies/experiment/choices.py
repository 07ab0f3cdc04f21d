"""What is compared: an experiment of several values, taken apart into experiments of one each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from whichmin.studies.experiment.config import Experiment
from whichmin.studies.experiment.optimizers import NamedOptimizer, labels


@dataclass(frozen=True)
class Choice:
    """One network and one way to train it.

    Attributes:
        experiment: of one network, scale, optimizer and batch size.
        recipe: the optimizer, and the batch size where there are several.
        network: what tells the network from the others, such as ``"hidden 64, scale 0.5"``; "" where there is one.
        name: what tells the choice from the others: the recipe, the network, or both.
    """

    experiment: Experiment
    recipe: str
    network: str
    name: str

    @property
    def optimizer(self) -> NamedOptimizer:
        """What trains."""
        (named,) = self.experiment.optimizer
        return named


def choices_of(experiment: Experiment) -> tuple[Choice, ...]:
    """Every network with every way to train; those of a network are together."""
    networks, recipes = _networks(experiment), _recipes(experiment)
    return tuple(
        Choice(replace(of_network, **training), recipe, network, _name(recipe, network, len(recipes)))
        for (network, of_network), (recipe, training) in itertools.product(networks, recipes)
    )


def varied(experiment: Experiment) -> dict[str, int]:
    """The keys that have several values, and how many."""
    rates = len(experiment.optimizer) if len({named.label for named in experiment.optimizer}) == 1 else 1
    counts = {
        "hidden": len(experiment.networks),
        "scale": len(experiment.scales),
        "optimizer": 1 if rates > 1 else len(experiment.optimizer),
        "lr": rates,
        "batch_size": len(experiment.batch_sizes),
    }
    return {name: count for name, count in counts.items() if count > 1}


def _networks(experiment: Experiment) -> list[tuple[str, Experiment]]:
    if experiment.model is not None:
        return [("", experiment)]
    networks, scales = experiment.networks, experiment.scales
    found = []
    for layers, scale in itertools.product(networks, scales):
        said = [f"hidden {'-'.join(map(str, layers))}"] if len(networks) > 1 else []
        said += [f"scale {scale:g}"] if len(scales) > 1 else []
        found.append((", ".join(said), replace(experiment, hidden=layers, scale=scale)))
    return found


def _recipes(experiment: Experiment) -> list[tuple[str, dict[str, object]]]:
    sizes = experiment.batch_sizes
    found = []
    for (named, label), size in itertools.product(
        zip(experiment.optimizer, labels(experiment.optimizer), strict=True), sizes
    ):
        rows = "full batch" if size is None else f"batch {size}"
        said = label if len(sizes) == 1 else f"{label}, {rows}"
        found.append((said, {"optimizer": (named,), "lr": named.lr, "batch_size": size}))
    return found


def _name(recipe: str, network: str, recipes: int) -> str:
    if not network:
        return recipe
    return network if recipes == 1 else f"{recipe}, {network}"
