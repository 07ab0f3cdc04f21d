"""What is asked: a validated description of data, network, seeds and training."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whichmin.errors import ConfigError
from whichmin.formats import is_table
from whichmin.studies.experiment.optimizers import named_optimizers

#: The losses by name, and what torch calls each.
LOSSES = {
    "mse": "MSELoss",
    "cross-entropy": "CrossEntropyLoss",
    "binary-cross-entropy": "BCEWithLogitsLoss",
    "huber": "HuberLoss",
    "smooth-l1": "SmoothL1Loss",
    "poisson": "PoissonNLLLoss",
    "gaussian": "GaussianNLLLoss",
}
#: Those whose lowest value is 0, at outputs that are the targets: training can aim at a small one.
LEAST_AT_TARGETS = ("mse", "huber", "smooth-l1", "gaussian")
#: Those of class numbers, which larger and larger outputs lower for ever.
GROWING = ("cross-entropy", "binary-cross-entropy")
_UNTIL = 1e-5
_CHOICES = {
    "loss": tuple(LOSSES),
    "network": ("mlp", "cnn"),
    "parametrization": ("ntk", "standard"),
    "dtype": ("float32", "float64"),
}
_COUNTS = {"n_train": 1, "n_test": 1, "data_seed": 0, "seed": 0}
#: How many points are drawn from other data to train on, and to test on.
_DRAWN = 100
_HIDDEN = {"mlp": (2048,), "cnn": (64, 64, 64)}
#: What describes whichmin's own networks, and therefore says nothing about a network of the caller's.
_OWN_NETWORK = ("network", "hidden", "parametrization", "activation", "bias", "scale")


@dataclass(frozen=True)
class Experiment:
    """Data, network, seeds and training: everything that the answer depends on.

    Several values of ``hidden``, ``scale``, ``optimizer``, ``lr`` or ``batch_size`` ask for a comparison:
    :func:`whichmin.studies.experiment.choices.choices_of` takes every combination apart.

    Attributes:
        data: a name or a path, see :func:`whichmin.data.load`.
        classes: the classes to tell apart, "all" of them, or None: 0 against 1, and everything in an ``.npz`` file or a
            table.
        n_train: the number of training points; None: 100, and of a table all that are not tested on.
        n_test: the number of test points; None: 100, and of a table the share ``test``.
        data_seed: of the draw of both.
        loss: what training minimizes: "mse", "cross-entropy", "binary-cross-entropy", "huber", "smooth-l1", "poisson"
            or "gaussian", torch's losses with their default settings; None: "mse", and "cross-entropy" of a table whose
            target is text or categories. It says how classes become targets too, see :func:`whichmin.data.load`.
        target: of a table, the column of targets.
        test: of a table, the share of its rows to test on.
        standardize: of a table, whether columns of numbers get mean 0 and standard deviation 1.
        network: "mlp" or "cnn".
        hidden: the widths of the hidden layers, or the channels of the convolutions; None: (2048,), (64, 64, 64).
            Several networks are a list of such lists.
        parametrization: "ntk" or "standard".
        activation: one of ``whichmin.networks.ACTIVATIONS``.
        bias: whether layers have biases.
        scale: α, in front of every layer; or several.
        model: a network of the caller's instead, "package.module:factory". A parameter named ``seed``, or one without
            a default, gets the seed; torch's global generator is seeded with it too.
        seeds: how many initializations, the seeds 0, 1, …; or a list of their numbers.
        optimizer: what trains: a name, several as "sgd:momentum=0.9,nesterov=true,adam", a table with a ``name`` and
            settings, or a list of these; a tuple of ``NamedOptimizer`` afterwards. The names are those of
            :mod:`whichmin.optimizers.registry`, and "package.module:Class".
        lr: one learning rate for all optimizers, one for each, or several for one optimizer; None: each one's own (the
            registry says which), of gradient descent "half", half of the limit of stability. "best": the rate at which
            its slowest mode falls fastest, at the edge of stability. "monotone", of any: the largest at which the
            training loss falls at every step.
        batch_size: rows per step; None, "none", or ``n_train`` and more: all of them. Or several.
        seed: of the order of the batches.
        until: the training loss to stop at; None: no such aim with ``steps``, and else 1e-5 for "mse", "huber",
            "smooth-l1" and "gaussian", which are least at the targets; the others need one of the two.
        steps: at most so many; None: any number.
        tol: of the followed path, as for ``predict``.
        dtype: "float32" or "float64".
        device: as torch names it.
        train: whether to train for real as well.

    Raises:
        ConfigError: a value of the wrong type or out of range.
    """

    data: str = "digits"
    classes: tuple[int | str, ...] | str | None = None
    n_train: int | None = None
    n_test: int | None = None
    data_seed: int = 0
    loss: Any = None
    target: str | None = None
    test: float = 0.3
    standardize: bool = True
    network: str = "mlp"
    hidden: Any = None
    parametrization: str = "ntk"
    activation: str = "relu"
    bias: bool = False
    scale: Any = 1.0
    model: str | None = None
    seeds: Any = 3
    optimizer: Any = "sgd"
    lr: Any = None
    batch_size: Any = None
    seed: int = 0
    until: float | None = None
    steps: int | None = None
    tol: float = 1e-2
    dtype: str = "float32"
    device: str = "cpu"
    train: bool = True

    def __post_init__(self) -> None:
        """Validate once; afterwards every field has its type and range, sequences are tuples and ints floats."""
        for name in ("data", "activation", "device"):
            self._require(name, isinstance(getattr(self, name), str) and getattr(self, name), "a name")
        self._check_table()
        if self.loss is None:
            object.__setattr__(self, "loss", usual_loss(self.data, self.target))
        for name in ("bias", "train", "standardize"):
            self._require(name, isinstance(getattr(self, name), bool), "true or false")
        for name, allowed in _CHOICES.items():
            self._require(name, getattr(self, name) in allowed, " or ".join(map(repr, allowed)))
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            given = value is not None or name not in ("n_train", "n_test")
            self._require(name, not given or _is_int(value, least), f"a whole number, {least} or more")
        self._require("tol", _is_positive(self.tol), "a positive number")
        object.__setattr__(self, "tol", float(self.tol))
        self._check_classes()
        self._check_networks()
        self._check_seeds()
        self._check_training()
        self._check_model()

    def _check_table(self) -> None:
        for name in ("n_train", "n_test"):
            if getattr(self, name) is None and not self.is_table:
                object.__setattr__(self, name, _DRAWN)
        is_name = isinstance(self.target, str) and bool(self.target)
        self._require("target", self.target is None or is_name, "the name of a column")
        share = _is_positive(self.test) and self.test < 1
        self._require("test", share, "a share of the rows, above 0 and below 1")
        if self.target is not None and not self.is_table:
            raise ConfigError(
                f"target is {self.target!r}, a column of a table, and data is {self.data!r}: pass a .csv or .parquet "
                "file, or openml: and a number."
            )

    def _check_classes(self) -> None:
        if isinstance(self.classes, (list, tuple)):
            object.__setattr__(self, "classes", tuple(self.classes))
            entries = all(isinstance(c, str) or _is_int(c, None) for c in self.classes)
            self._require("classes", entries and len(set(self.classes)) >= 2, "two different classes, such as [0, 1]")
        else:
            self._require("classes", self.classes in (None, "all"), "a list such as [0, 1], or 'all'")

    def _check_networks(self) -> None:
        if self.hidden is not None:
            several = _listed(self.hidden) and len(self.hidden) > 0 and all(map(_listed, self.hidden))
            networks = tuple(map(tuple, self.hidden)) if several else (self.hidden,)
            empty = several and () in networks
            widths = not empty and all(_listed(layers) and all(_is_int(w, 1) for w in layers) for layers in networks)
            self._require("hidden", widths, "a list of widths such as [600, 600], or a list of such lists")
            self._settle("hidden", tuple(map(tuple, networks)))
        scales = tuple(self.scale) if _listed(self.scale) else (self.scale,)
        self._require("scale", scales and all(map(_is_positive, scales)), "a positive number, or a list of them")
        self._settle("scale", tuple(map(float, scales)))

    def _check_seeds(self) -> None:
        expected = "how many initializations, 1 or more, or a list of their numbers"
        if _listed(self.seeds):
            self._require("seeds", self.seeds and all(_is_int(number, 0) for number in self.seeds), expected)
            object.__setattr__(self, "seeds", _different("seeds", tuple(self.seeds)))
        else:
            self._require("seeds", _is_int(self.seeds, 1), expected)

    def _settle(self, name: str, values: tuple[Any, ...]) -> None:
        """Keep one value as it is, and several, which differ, as a tuple."""
        object.__setattr__(self, name, values[0] if len(values) == 1 else _different(name, values))

    def _check_training(self) -> None:
        optimizers = named_optimizers(self.optimizer, self.lr)
        rates = tuple(named.lr for named in optimizers)
        object.__setattr__(self, "optimizer", optimizers)
        object.__setattr__(self, "lr", rates[0] if len(set(rates)) == 1 else rates)
        is_endless = self.until is None and self.steps is None
        until = _UNTIL if is_endless and self.loss in LEAST_AT_TARGETS else self.until
        if until is not None:
            self._require("until", _is_number(until), "a number")
            object.__setattr__(self, "until", float(until))
        self._settle(
            "batch_size", tuple(map(self._rows, self.batch_size if _listed(self.batch_size) else [self.batch_size]))
        )
        self._require("steps", self.steps is None or _is_int(self.steps, 1), "a whole number, 1 or more")

    def _rows(self, size: Any) -> int | None:
        """The rows of a step; None where these are all."""
        if size in (None, "none"):
            return None
        self._require("batch_size", _is_int(size, 1), "a whole number of rows, 1 or more, or none for all of them")
        rows = int(size)
        return None if self.n_train is not None and rows >= self.n_train else rows

    def _check_model(self) -> None:
        if self.model is None:
            return
        parts = self.model.split(":") if isinstance(self.model, str) else []
        self._require("model", len(parts) == 2 and all(parts), "'package.module:factory'")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        said = [name for name in _OWN_NETWORK if getattr(self, name) != defaults[name]]
        if said:
            raise ConfigError(
                f"model is {self.model!r} and {', '.join(said)} describe a network of whichmin's: "
                "leave out one or the other."
            )

    def _require(self, name: str, condition: object, expected: str) -> None:
        if not condition:
            raise ConfigError(f"{name} is {getattr(self, name)!r}; expected {expected}.")

    @property
    def layers(self) -> tuple[int, ...]:
        """``hidden`` of one network, with the default in place of None."""
        (layers,) = self.networks
        return layers

    @property
    def networks(self) -> tuple[tuple[int, ...], ...]:
        """The layers of each network."""
        hidden = _HIDDEN[self.network] if self.hidden is None else self.hidden
        return hidden if hidden and isinstance(hidden[0], tuple) else (hidden,)

    @property
    def scales(self) -> tuple[float, ...]:
        """α, one or several."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale,)

    @property
    def batch_sizes(self) -> tuple[int | None, ...]:
        """Rows per step, one or several; None for all of them."""
        return self.batch_size if isinstance(self.batch_size, tuple) else (self.batch_size,)

    @property
    def initializations(self) -> tuple[int, ...]:
        """Their numbers."""
        return self.seeds if isinstance(self.seeds, tuple) else tuple(range(self.seeds))

    @property
    def is_table(self) -> bool:
        """Whether the data are a table with named columns."""
        return is_table(self.data)

    @property
    def chosen_classes(self) -> tuple[int | str, ...] | None:
        """``classes`` as :func:`whichmin.data.load` takes them."""
        if self.classes is None:
            return None if self.data.endswith(".npz") or self.is_table else (0, 1)
        return None if isinstance(self.classes, str) else self.classes

    def to_dict(self) -> dict[str, Any]:
        """Every field, resolved, as JSON has them; leaves out what does not describe a ``model`` of the caller's."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {name: list(values[name]) for name in ("scale", "batch_size", "seeds") if _listed(values[name])}
        networks = list(map(list, self.networks))
        values["hidden"] = networks[0] if len(networks) == 1 else networks
        chosen = self.chosen_classes
        values["optimizer"] = [named.to_dict() for named in self.optimizer]
        del values["lr"]  # those of the optimizers
        values["classes"] = list(chosen) if chosen is not None else "all"
        if self.model is not None:
            return {name: value for name, value in values.items() if name not in _OWN_NETWORK}
        return {name: value for name, value in values.items() if name != "model"}

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "the configuration") -> Experiment:
        """An experiment from names and values; a hyphen in a name is an underscore.

        Args:
            values: any of the attributes.
            source: what messages call the place that they come from.

        Raises:
            ConfigError: a name that is none of the attributes (the message says which comes closest), or a value that
                cannot be used.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        values = {name.replace("-", "_"): value for name, value in values.items()}
        check_keys(values, known, source)
        return cls(**values)


def usual_loss(data: str, target: str | None) -> str:
    """The loss of data that is not told: the cross-entropy of a table whose target is labels, else the mean square.

    Raises:
        DataError: a table that cannot be read, or without that column.
    """
    if not is_table(data):
        return "mse"
    from whichmin.data.table import has_labels  # brings torch and pandas

    return "cross-entropy" if has_labels(data, target) else "mse"


def check_keys(values: Mapping[str, Any], known: Sequence[str], source: str) -> None:
    """Refuse names that are not known.

    Raises:
        ConfigError: says which of the known ones comes closest.
    """
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise ConfigError(
                f"{source} has the unknown key {name!r}; did you mean {close[0]!r}? Known are {', '.join(known)}."
            )


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The names and values of a TOML or JSON file, told apart by its ending.

    Raises:
        ConfigError: no such file, another ending, or text that is not TOML or JSON.
    """
    file = Path(path)
    if file.suffix not in (".toml", ".json"):
        raise ConfigError(f"{file} is neither .toml nor .json: write the configuration as one of them.")
    try:
        text = file.read_text(encoding="utf-8")
        values = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not valid {file.suffix[1:].upper()}: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f'{file} holds a {type(values).__name__}; expected names and values, such as {{"n_train": 100}}.'
        )
    return values


def _listed(value: object) -> bool:
    return isinstance(value, list | tuple)


def _different(name: str, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values.

    Raises:
        ConfigError: one comes twice.
    """
    for i, value in enumerate(values):
        if value in values[:i]:
            said = "-".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
            hint = f" Two layers of {said} are one network, {said}-{said}." if isinstance(value, tuple) else ""
            raise ConfigError(f"{name} has {said} twice; expected different values.{hint}")
    return values


def _is_int(value: object, least: int | None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and value > 0
