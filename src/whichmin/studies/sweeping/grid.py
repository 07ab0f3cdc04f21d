"""The grid of a sweep: keys of an experiment, of which lists are axes. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from whichmin.errors import ConfigError
from whichmin.studies.experiment.config import Experiment, check_keys
from whichmin.studies.experiment.optimizers import NamedOptimizer, named_optimizers

#: Keys of a grid beside those of an experiment.
WIDTH, DEPTH, MITIGATION, VALIDATION = "width", "depth", "mitigation", "validation"
#: The remedy that is none.
AS_IT_IS = "as_it_is"
#: The share of the training points that is held out where a grid has remedies.
HELD_OUT = 0.2
#: What a column of a table is called whose key is another.
COLUMNS = {"seeds": "initialization"}
_EXPERIMENT = tuple(field.name for field in dataclasses.fields(Experiment))
_OWN = (WIDTH, DEPTH, MITIGATION, VALIDATION)


@dataclass(frozen=True)
class Cell:
    """One cell of a grid.

    Attributes:
        experiment: data, network and training; one optimizer.
        initialization: the seed of the network.
        mitigation: the remedy, by name; ``"as_it_is"`` for none.
        validation: the share of the training points that is held out; 0 for none.
    """

    experiment: Experiment
    initialization: int
    mitigation: str = AS_IT_IS
    validation: float = 0.0

    @property
    def optimizer(self) -> NamedOptimizer:
        """What trains."""
        (named,) = self.experiment.optimizer
        return named

    def value(self, key: str) -> Any:
        """What a key of the grid is here, as a table has it."""
        experiment = self.experiment
        special: dict[str, Callable[[], Any]] = {
            "seeds": lambda: self.initialization,
            "hidden": lambda: "-".join(map(str, experiment.layers)),
            WIDTH: lambda: experiment.layers[0],
            DEPTH: lambda: len(experiment.layers),
            "optimizer": lambda: self.optimizer.label,
            "lr": lambda: self.optimizer.lr,
            "classes": lambda: "all" if experiment.chosen_classes is None else _joined(experiment.chosen_classes),
            MITIGATION: lambda: self.mitigation,
            VALIDATION: lambda: self.validation,
        }
        return special[key]() if key in special else getattr(experiment, key)


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some keys.

    Attributes:
        axes: the values of each key that was said, and of ``seeds``, in order; the last one changes fastest.
        rest: what is the same in every cell.
    """

    axes: dict[str, tuple[Any, ...]]
    rest: dict[str, Any]

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str = "the grid", train: bool | None = None) -> Grid:
        """From names and values: a list is an axis, and ``seeds = 4`` are four of them.

        ``width`` and ``depth`` make ``hidden``; one of its networks is a list itself, as in ``[[600, 600], [128]]``,
        and so are ``classes``, as in ``[[0, 1], [3, 8]]``. Optimizers may be text of several, as in ``"sgd,adam"``;
        ``lr`` is an axis beside them. ``mitigation`` is a remedy of :func:`whichmin.mitigate`, ``validation`` the share
        of the training points that is held out for it, 0.2 where there are remedies.

        Args:
            values: by key; a hyphen in a key is an underscore.
            source: what messages call the place that they come from.
            train: over what the values say.

        Raises:
            ConfigError: no key, one that is not known, an empty list, a value that comes twice or cannot be used.
        """
        if not isinstance(values, Mapping) or not values:
            raise ConfigError(
                f"{source} has nothing in it; expected keys and values, of which lists are axes, such as "
                '{"scale": [0.5, 1.0], "seeds": 4}.'
            )
        said = {str(name).replace("-", "_"): value for name, value in values.items()}
        rest: dict[str, Any] = {"train": False}
        rest |= {"train": said.pop("train")} if "train" in said else {}
        rest |= {} if train is None else {"train": train}
        _check_keys(said, source)
        axes = {name: _axis(name, value, said) for name, value in said.items() if name != "seeds"}
        axes["seeds"] = _seeds(said.get("seeds", Experiment.seeds))
        for name, entries in axes.items():
            counts = Counter(map(repr, entries))
            twice = next((entry for entry in entries if counts[repr(entry)] > 1), None)
            if len(counts) < len(entries):
                hint = " For two layers of one width write a list in a list, [[600, 600]]." if name == "hidden" else ""
                raise ConfigError(f"{name} has {_said(twice)} twice; expected different values.{hint}")
        if MITIGATION in axes and VALIDATION not in axes:
            rest[VALIDATION] = HELD_OUT
        return cls(axes, rest)

    @property
    def size(self) -> int:
        """How many cells there are."""
        return math.prod(map(len, self.axes.values()))

    @property
    def said(self) -> dict[str, list[str]]:
        """The values of each key, as text; of what is the same in every cell those that are not the defaults."""
        rest = {name: (value,) for name, value in self.rest.items() if value}
        return {name: [_text(entry) for entry in entries] for name, entries in (self.axes | rest).items()}

    def cells(self) -> Iterator[Cell]:
        """The cells in order; where the data decide the loss, each data set is read once for it.

        Raises:
            ConfigError: values that cannot be used together.
            DataError: a table that cannot be read, or without its target.
        """
        losses: dict[str, str] = {}
        for values in itertools.product(*self.axes.values()):
            yield self._cell(dict(zip(self.axes, values, strict=True)), losses)

    def _cell(self, values: dict[str, Any], losses: dict[str, str]) -> Cell:
        """A cell.

        Args:
            values: of the axes.
            losses: what data decided before, by data and target; what this cell's decide is put there.
        """
        values = self.rest | values
        decides, target = values.get("loss") is None, repr((values.get("data"), values.get("target")))
        if decides:
            values["loss"] = losses.get(target)
        initialization, mitigation = values.pop("seeds"), values.pop(MITIGATION, AS_IT_IS)
        share = values.pop(VALIDATION, 0.0)
        _put_layers(values)
        rates = {"lr": values.pop("lr")} if "lr" in values else {}
        if "optimizer" in values or rates:
            named = values.pop("optimizer", None) or NamedOptimizer("sgd", "half")
            values |= {"optimizer": (replace(named, lr=rates.get("lr", named.lr)),)}
        experiment = Experiment.from_mapping(values | {"seeds": 1})
        if decides:
            losses[target] = experiment.loss
        cell = Cell(experiment, initialization, mitigation, _share(share))
        if mitigation != AS_IT_IS and not cell.validation:
            raise ConfigError(f"{mitigation} needs points that it is looked at by: leave validation out, or above 0.")
        return cell


def _check_keys(said: Mapping[str, Any], source: str) -> None:
    check_keys(said, (*_EXPERIMENT, *_OWN), source)
    if WIDTH in said and "hidden" in said:
        raise ConfigError("got width and hidden: say the layers in one of them.")
    if DEPTH in said and "hidden" in said:
        raise ConfigError("got depth and hidden: pass width with depth, or the networks as hidden = [[64], [64, 64]].")


def _axis(name: str, value: Any, said: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of a key."""
    if name == "optimizer":
        rates = _listed(said.get("lr"))
        entries: tuple[Any, ...] = named_optimizers(value, rates[0] if rates else None)
    elif name == "classes" and not any(isinstance(entry, list | tuple) for entry in _listed(value)):
        entries = (tuple(value) if isinstance(value, list | tuple) else value,)
    else:
        entries = tuple(_listed(value))
    if not entries:
        raise ConfigError(f"{name} is an empty list, so that the grid has nothing in it; expected one value at least.")
    if name == MITIGATION:
        _check_remedies(entries)
    return tuple(map(_READ.get(name, _plain), entries))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _layers(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _size(value: Any) -> Any:
    return None if value is None or (isinstance(value, str) and value.lower() == "none") else value


_READ: dict[str, Callable[[Any], Any]] = {"hidden": _layers, "batch_size": _size}


def _seeds(value: Any) -> tuple[int, ...]:
    entries = list(value) if isinstance(value, list | tuple) else value
    numbers = entries if isinstance(entries, list) else [entries]
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in numbers) or entries == 0 or not numbers:
        raise ConfigError(
            f"seeds is {value!r}; expected how many initializations, 1 or more, or a list of their numbers."
        )
    return tuple(numbers) if isinstance(entries, list) else tuple(range(numbers[0]))


def _put_layers(values: dict[str, Any]) -> None:
    """Make ``hidden`` of ``width`` and ``depth``."""
    if WIDTH not in values and DEPTH not in values:
        return
    width, depth = values.pop(WIDTH, None), values.pop(DEPTH, 1)
    width = Experiment().layers[0] if width is None else width
    for name, value in ((WIDTH, width), (DEPTH, depth)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} is {value!r}; expected a whole number, 1 or more, or a list of them.")
    values["hidden"] = (width,) * depth


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigError(f"validation is {value!r}; expected a share of the training points, from 0 to below 1.")
    return float(value)


def _check_remedies(names: Sequence[Any]) -> None:
    from whichmin.mitigation.registry import METHODS

    for name in names:
        if name not in METHODS:
            raise ConfigError(f"mitigation is {name!r}; expected some of {', '.join(METHODS)}.")


def _joined(values: Sequence[Any]) -> str:
    return ",".join(map(str, values))


def _text(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, NamedOptimizer):
        return value.text
    return "none" if value is None else "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _said(value: Any) -> str:
    return value.text if isinstance(value, NamedOptimizer) else repr(list(value) if isinstance(value, tuple) else value)
