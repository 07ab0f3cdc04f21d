"""What a command is asked: the command line over a file over the command's defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whichmin.errors import ConfigError
from whichmin.formats import is_table
from whichmin.studies.experiment.choices import Choice, choices_of, varied
from whichmin.studies.experiment.config import (
    GROWING,
    LEAST_AT_TARGETS,
    Experiment,
    check_keys,
    read_config,
    usual_loss,
)

#: Widths of the hidden layers where many networks are predicted.
_NARROW = (512,)
#: Networks of one hidden layer: the first is looked at in detail.
_SWEPT = ((200,), (100,), (400,), (800,), (1600,), (3200,), (6400,))
#: The defaults of a command that are not an experiment's own. Comparisons have learning rates that bring them to their
#: aim in some hundred steps, and a network and tolerances with which five optimizers and ten seeds take a minute; a
#: search for a better minimizer has a rate below the edge of stability, where paths are predicted without training.
DEFAULTS: dict[str, dict[str, Any]] = {
    "explain": {},
    "predict": {},
    "compare": {
        "hidden": _NARROW,
        "optimizer": "sgd:lr=1,sgd:momentum=0.9,lr=0.1,adam:lr=3e-3,adagrad:lr=3e-2,rmsprop:lr=1e-3",
        "seeds": 10,
        "until": 1e-3,
        "tol": 2e-2,
        "train": False,
    },
    "mitigate": {"hidden": _NARROW, "optimizer": "sgd:lr=1", "seeds": 1, "until": 1e-3, "tol": 2e-2},
    "leave-out": {"seeds": 1},
    "linear": {"data": "random", "n_train": 10, "hidden": _SWEPT, "seeds": 20},
    "sweep": {"train": False},
}
#: The table of a file that says what it was made with; it asks nothing.
MADE = "made"
_EXPERIMENT = tuple(field.name for field in dataclasses.fields(Experiment))
#: The options of a command that are no experiment's, with their defaults.
OWN: dict[str, dict[str, Any]] = {
    "compare": {"level": 0.05},
    "mitigate": {"methods": "all", "train": "best", "validation": 0.2, "level": 0.05, "budget": None},
    "leave-out": {"groups": "each", "batches": "kept", "group_seed": 0, "budget": None},
    "linear": {"inputs": 25, "outputs": 3, "exponent": 0.5, "network_seed": 0, "exponents": (0.3, 0.35, 0.4, 0.5)},
}


@dataclass(frozen=True)
class Asked:
    """What a command is asked.

    Attributes:
        command: its name.
        experiment: data, network and training.
        own: the command's own options by name.
        config: the file that was asked by; None for none.
    """

    command: str
    experiment: Experiment
    own: Mapping[str, Any] = field(default_factory=dict)
    config: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it and as ``--config`` takes it."""
        return self.experiment.to_dict() | dict(self.own)

    def single(self, about: str) -> Choice:
        """The one network and the one way to train it, for commands that do not compare.

        Args:
            about: what the command does with them.

        Raises:
            ConfigError: there are several; the message says what compares them.
        """
        several = varied(self.experiment)
        if several:
            said = " and ".join(f"{count} values of {option(name)}" for name, count in several.items())
            raise ConfigError(
                f"got {said}; {about} for one network and one way to train it: say one of each here, or compare them "
                f"with whichmin compare {' '.join(f'{option(name)} …' for name in several)}."
            )
        (choice,) = choices_of(self.experiment)
        return choice


def option(key: str) -> str:
    """A key as the command line writes it."""
    return f"--{key.replace('_', '-')}"


def said_values(
    command: str, line: Mapping[str, Any], config: Path | None, known: Sequence[str] = _EXPERIMENT
) -> dict[str, Any]:
    """The command line over the file: keys and values; what neither says is left out.

    Args:
        command: its name.
        line: what the command line says, None where it says nothing.
        config: the file; None for none.
        known: the keys that the command takes beside its own.

    Raises:
        ConfigError: the file cannot be read, or has a key that the command does not take.
    """
    file = {} if config is None else {name.replace("-", "_"): value for name, value in read_config(config).items()}
    file.pop(MADE, None)
    check_keys(file, list(dict.fromkeys([*known, *OWN.get(command, {})])), str(config))
    return file | {name: value for name, value in line.items() if value is not None}


def ask(command: str, line: Mapping[str, Any], config: Path | None, **fixed: Any) -> Asked:
    """What is asked of a command.

    Args:
        command: its name.
        line: what the command line says, None where it says nothing; its own options too.
        config: the file; None for none.
        **fixed: what the command itself says, over all of them.

    Raises:
        ConfigError: a key that the command does not know, or a value that cannot be used.
    """
    said = said_values(command, line, config)
    own = {name: said.pop(name, default) for name, default in OWN.get(command, {}).items()}
    data = said.get("data", DEFAULTS[command].get("data", Experiment.data))
    if isinstance(data, str):
        _check_line(line, data)
        if "loss" not in said:
            said["loss"] = usual_loss(data, said.get("target"))
    values = {name: value for name, value in DEFAULTS[command].items() if _fits(name, said)}
    source = "the command line" if config is None else str(config)
    experiment = Experiment.from_mapping(values | said | fixed, source)
    if experiment.loss in GROWING and experiment.until is None and experiment.steps is None:
        raise ConfigError(
            f"outputs that lower the {experiment.loss} grow for ever: say where training ends, as by --until 0.1 or "
            "--steps 1000."
        )
    return Asked(command, experiment, own, config)


def _check_line(line: Mapping[str, Any], data: str) -> None:
    """Refuse on the command line what is about tables where the data are none; files say all that there is."""
    said = [option("test")] if line.get("test") is not None else []
    if line.get("standardize") is not None:
        said.append("--standardize" if line["standardize"] else "--no-standardize")
    if said and not is_table(data):
        raise ConfigError(
            f"got {' and '.join(said)}, about the rows and columns of a table, and data is {data!r}: pass a .csv or "
            ".parquet file, or openml: and a number, or leave it out; --n-test says how many points to test on."
        )


def made_of(config: Path | None) -> Mapping[str, Any] | None:
    """What a file says that it was made with; None where it does not say."""
    found = None if config is None else read_config(config).get(MADE)
    return found if isinstance(found, Mapping) else None


def _fits(name: str, said: Mapping[str, Any]) -> bool:
    """Whether a command's default means something beside what is said."""
    if name == "until":
        return said.get("steps") is None and said["loss"] in LEAST_AT_TARGETS
    if name == "hidden":
        return said.get("model") is None and said.get("network", Experiment.network) == "mlp"
    return True
