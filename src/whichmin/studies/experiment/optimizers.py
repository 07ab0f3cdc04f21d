"""Which optimizers are asked about: names, settings and learning rates, as text or tables say them.

Nothing here imports torch; :mod:`whichmin.studies.experiment.build` makes the optimizers.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from whichmin.errors import ConfigError
from whichmin.optimizers.registry import REGISTRY, OptimizerFacts

Setting = bool | int | float | str | None | tuple[float, ...]
LearningRate = float | str | None


def known() -> dict[str, OptimizerFacts]:
    """The optimizers that text can name, by name."""
    return {name: facts for name, facts in REGISTRY.items() if facts.on_command_line}


def with_best_rate() -> list[str]:
    """The names of those whose learning rate may be "best"."""
    return [name for name, facts in known().items() if facts.linear]


@dataclass(frozen=True)
class NamedOptimizer:
    """One optimizer with its settings.

    Attributes:
        name: a name of :mod:`whichmin.optimizers.registry`, or "package.module:Class".
        lr: a positive number, "best", "half" or "monotone"; None where a class of the caller's has a default of its
            own.
        settings: the other settings by name, in alphabetical order.
    """

    name: str
    lr: LearningRate = None
    settings: tuple[tuple[str, Setting], ...] = ()

    @property
    def path(self) -> str:
        """The class, "package.module:Class"."""
        facts = known().get(self.name)
        return self.name if facts is None else facts.path

    @property
    def linear(self) -> bool:
        """Whether a step is linear in the residual, so that "best" means something and a prediction is a formula."""
        return self.name in with_best_rate()

    @property
    def label(self) -> str:
        """Its name and settings, without the learning rate."""
        return " ".join([self.name, *(f"{name}={_spelled(value)}" for name, value in self.settings)])

    @property
    def text(self) -> str:
        """As the command line takes it."""
        said = ([] if self.lr is None else [("lr", self.lr)]) + list(self.settings)
        return self.name + (":" if said else "") + ",".join(f"{name}={_spelled(value)}" for name, value in said)

    def to_dict(self) -> dict[str, Any]:
        """As a configuration file has it."""
        rate = {} if self.lr is None else {"lr": self.lr}
        return {"name": self.name} | rate | {n: list(v) if isinstance(v, tuple) else v for n, v in self.settings}


def named_optimizers(optimizer: object, lr: object) -> tuple[NamedOptimizer, ...]:
    """The optimizers, each with its learning rate.

    Args:
        optimizer: text such as "sgd:momentum=0.9,nesterov=true,adam", a table with a ``name``, or a list of these.
        lr: None, or one for all of them, or a list: one for each, or several of a single optimizer; over what the
            optimizers themselves say.

    Raises:
        ConfigError: a name or a value that cannot be used.
    """
    entries = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    optimizers = [named for entry in entries for named in _entry(entry)]
    if not optimizers:
        raise ConfigError("optimizer is empty; expected a name such as 'sgd', or several separated by commas.")
    rates = list(lr) if isinstance(lr, list | tuple) else [lr] * len(optimizers)
    optimizers = optimizers * len(rates) if len(optimizers) == 1 else optimizers
    if len(rates) != len(optimizers):
        raise ConfigError(
            f"lr is {_spelled(lr, ', ')!r}, {len(rates)} of them for {len(optimizers)} "
            f"optimizers ({', '.join(c.name for c in optimizers)}); expected one for all, or one for each."
        )
    settled = tuple(_with_rate(named, rate) for named, rate in zip(optimizers, rates, strict=True))
    for i, named in enumerate(settled):
        if named in settled[:i]:
            raise ConfigError(f"optimizer has {named.text!r} twice; expected different ones.")
    return settled


def labels(optimizers: Sequence[NamedOptimizer]) -> list[str]:
    """A different text for each: name and settings, with the learning rate where these are not enough."""
    plain = [named.label for named in optimizers]
    return [
        f"{text} lr={_spelled(named.lr)}" if plain.count(text) > 1 else text
        for text, named in zip(plain, optimizers, strict=True)
    ]


def _entry(entry: object) -> list[NamedOptimizer]:
    if isinstance(entry, NamedOptimizer):
        return [entry]
    if isinstance(entry, str):
        return _parse(entry)
    if isinstance(entry, Mapping):
        return [_make(entry.get("name"), {str(k): v for k, v in entry.items() if k != "name"})]
    raise ConfigError(f"optimizer is {entry!r}; expected a name such as 'adam', or a table with a name.")


def _parse(text: str) -> list[NamedOptimizer]:
    """``a:x=1,y=2,b``: what has an equals sign and no name before it belongs to the optimizer before."""
    read: list[tuple[str, dict[str, Setting]]] = []
    for part in (p.strip() for p in text.split(",")):
        head, equals, value = part.partition("=")
        name, colon, setting = head.rpartition(":")
        if not equals:
            read.append((part, {}))
            continue
        if colon:
            read.append((name.strip(), {}))
        if not read:
            raise ConfigError(f"optimizer is {text!r}, which begins with a setting; expected a name, as in sgd:{part}.")
        key = setting.strip()
        if not key or key in read[-1][1]:
            raise ConfigError(f"optimizer is {text!r}, which says {part!r}; expected each setting once, name=value.")
        read[-1][1][key] = _value(value.strip())
    return [_make(name, settings) for name, settings in read]


def _make(name: object, settings: dict[str, Any]) -> NamedOptimizer:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"an optimizer has the name {name!r}; expected one of {', '.join(known())}.")
    key = name.lower().replace("_", "-")
    if key in known():
        name = key
    elif name.count(":") != 1 or not all(name.split(":")):
        swapped = [other for other in known() if sorted(other) == sorted(key)]
        close = (swapped + difflib.get_close_matches(key, known(), n=1, cutoff=0.0))[0]
        raise ConfigError(
            f"optimizer {name!r} is not known; did you mean {close!r}? Known are {', '.join(known())}, and "
            "package.module:Class. Settings follow as in sgd:momentum=0.9,nesterov=true."
        )
    rate = settings.pop("lr", None)
    for setting, value in settings.items():
        if isinstance(value, list | tuple):
            settings[setting] = tuple(value)
        elif not isinstance(value, bool | int | float | str | None):
            raise ConfigError(f"{name} has {setting} = {value!r}; expected a number, true, false, text or a list.")
    return NamedOptimizer(name, rate, tuple(sorted(settings.items())))


def _with_rate(optimizer: NamedOptimizer, lr: object) -> NamedOptimizer:
    rate: object = optimizer.lr if lr is None else lr
    facts = known().get(optimizer.name)
    if rate is None and facts is not None:
        rate = facts.default_lr
        if rate is None:
            raise ConfigError(f"{optimizer.name} has no learning rate that suits all{_why(facts)}")
    if rate in ("best", "half") and not optimizer.linear:
        suits = "" if facts is None or facts.default_lr is None else f", such as {_spelled(facts.default_lr)}"
        raise ConfigError(
            f"lr is {rate!r} for {optimizer.name}; that follows from the tangent kernel, and is known of "
            f"{', '.join(with_best_rate())} only, whose steps scale with the gradient. Expected a "
            f"number{suits}, or 'monotone'."
        )
    if rate is None or rate in ("best", "half", "monotone"):
        return replace(optimizer, lr=rate)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not (math.isfinite(rate) and rate > 0):
        raise ConfigError(
            f"lr is {rate!r}; expected best, half, monotone or a positive number, or one for each optimizer."
        )
    return replace(optimizer, lr=float(rate))


def _why(facts: OptimizerFacts) -> str:
    return f": {facts.without_default}" if facts.without_default else f". Say one, such as {facts.name}:lr=1e-3."


def _value(text: str) -> Setting:
    words: dict[str, Setting] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    numbers = [_number(part) for part in text.split("/")]
    parsed = [number for number in numbers if number is not None]
    if len(parsed) < len(numbers):
        return text
    return parsed[0] if len(parsed) == 1 else tuple(parsed)


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _spelled(value: object, between: str = "/") -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return between.join(map(_spelled, value)) if isinstance(value, list | tuple) else str(value)
