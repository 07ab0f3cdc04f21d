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

#: Name: (class, learning rate where nothing is said). "best" is resolved from the tangent kernel. The numbers bring the
#: default question (digits 0 against 1, one hidden layer of 2048) to a training mean square error of 1e-5.
KNOWN: dict[str, tuple[str, float | str | None]] = {
    "sgd": ("torch.optim:SGD", "best"),
    "nesterov": ("whichmin.optimizers:Nesterov", "best"),
    "higher-momentum": ("whichmin.optimizers:HigherMomentum", "best"),
    "adam": ("torch.optim:Adam", 1e-3),
    "adamw": ("torch.optim:AdamW", 1e-3),
    "nadam": ("torch.optim:NAdam", 3e-4),
    "radam": ("torch.optim:RAdam", 1e-3),
    "adamax": ("torch.optim:Adamax", 2e-3),
    "adagrad": ("torch.optim:Adagrad", 1e-2),
    "rmsprop": ("torch.optim:RMSprop", 3e-5),
    "adadelta": ("torch.optim:Adadelta", 10.0),
    "rprop": ("torch.optim:Rprop", 1e-3),
    "adafactor": ("torch.optim:Adafactor", 3e-5),
    "muon": ("torch.optim:Muon", 1e-3),
    "asgd": ("torch.optim:ASGD", None),
}
#: Those that "best" is about.
LINEAR = ("sgd", "nesterov", "higher-momentum")

Setting = bool | int | float | str | None | tuple[float, ...]
LearningRate = float | str | None


@dataclass(frozen=True)
class Choice:
    """One optimizer with its settings.

    Attributes:
        name: a name of ``KNOWN``, or "package.module:Class".
        lr: a positive number or "best"; None where a class of the caller's has a default of its own.
        settings: the other settings by name, in alphabetical order.
    """

    name: str
    lr: LearningRate = None
    settings: tuple[tuple[str, Setting], ...] = ()

    @property
    def path(self) -> str:
        """The class, "package.module:Class"."""
        return KNOWN[self.name][0] if self.name in KNOWN else self.name

    @property
    def linear(self) -> bool:
        """Whether a step is linear in the residual, so that "best" means something and a prediction is a formula."""
        return self.name in LINEAR

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


def choices(optimizer: object, lr: object) -> tuple[Choice, ...]:
    """The optimizers, each with its learning rate.

    Args:
        optimizer: text such as "sgd:momentum=0.9,nesterov=true,adam", a table with a ``name``, or a list of these.
        lr: None, or one for all of them, or a list of one for each; over what the optimizers themselves say.

    Raises:
        ConfigError: a name or a value that cannot be used.
    """
    entries = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    found = [choice for entry in entries for choice in _entry(entry)]
    if not found:
        raise ConfigError("optimizer is empty; expected a name such as 'sgd', or several separated by commas.")
    rates = list(lr) if isinstance(lr, list | tuple) else [lr] * len(found)
    if len(rates) != len(found):
        raise ConfigError(
            f"lr is {_spelled(lr, ', ')!r}, {len(rates)} of them for {len(found)} optimizer{'s' * (len(found) > 1)} "
            f"({', '.join(c.name for c in found)}); expected one for all, or one for each."
        )
    done = tuple(_with_rate(choice, rate) for choice, rate in zip(found, rates, strict=True))
    for i, choice in enumerate(done):
        if choice in done[:i]:
            raise ConfigError(f"optimizer has {choice.text!r} twice; expected different ones.")
    return done


def labels(chosen: Sequence[Choice]) -> list[str]:
    """A different text for each: name and settings, with the learning rate where these are not enough."""
    plain = [choice.label for choice in chosen]
    return [
        f"{text} lr={_spelled(choice.lr)}" if plain.count(text) > 1 else text
        for text, choice in zip(plain, chosen, strict=True)
    ]


def _entry(entry: object) -> list[Choice]:
    if isinstance(entry, Choice):
        return [entry]
    if isinstance(entry, str):
        return _parse(entry)
    if isinstance(entry, Mapping):
        return [_make(entry.get("name"), {str(k): v for k, v in entry.items() if k != "name"})]
    raise ConfigError(f"optimizer is {entry!r}; expected a name such as 'adam', or a table with a name.")


def _parse(text: str) -> list[Choice]:
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


def _make(name: object, settings: dict[str, Any]) -> Choice:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"an optimizer has the name {name!r}; expected one of {', '.join(KNOWN)}.")
    key = name.lower().replace("_", "-")
    if key in KNOWN:
        name = key
    elif name.count(":") != 1 or not all(name.split(":")):
        swapped = [known for known in KNOWN if sorted(known) == sorted(key)]
        close = (swapped + difflib.get_close_matches(key, KNOWN, n=1, cutoff=0.0))[0]
        raise ConfigError(
            f"optimizer {name!r} is not known; did you mean {close!r}? Known are {', '.join(KNOWN)}, and "
            "package.module:Class. Settings follow as in sgd:momentum=0.9,nesterov=true."
        )
    rate = settings.pop("lr", None)
    for setting, value in settings.items():
        if isinstance(value, list | tuple):
            settings[setting] = tuple(value)
        elif not isinstance(value, bool | int | float | str | None):
            raise ConfigError(f"{name} has {setting} = {value!r}; expected a number, true, false, text or a list.")
    return Choice(name, rate, tuple(sorted(settings.items())))


def _with_rate(choice: Choice, lr: object) -> Choice:
    rate: object = choice.lr if lr is None else lr
    default = KNOWN[choice.name][1] if choice.name in KNOWN else None
    if rate is None and choice.name == "asgd":
        raise ConfigError(
            "asgd has no learning rate that suits all: its setting lambd=1e-4 shrinks the weights, so that it does not "
            "come to a training error of 0. Say one, such as asgd:lr=1,lambd=0."
        )
    rate = default if rate is None else rate
    if rate == "best" and not choice.linear:
        raise ConfigError(
            f"lr is 'best' for {choice.name}; that is the rate at which the tangent kernel's slowest mode falls "
            f"fastest, known of {', '.join(LINEAR)} only, whose steps scale with the gradient. Expected a number"
            f"{'' if default is None else f', such as {_spelled(default)}'}."
        )
    if rate is None or rate == "best":
        return replace(choice, lr=rate)
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not (math.isfinite(rate) and rate > 0):
        raise ConfigError(f"lr is {rate!r}; expected 'best' or a positive number, or one for each optimizer.")
    return replace(choice, lr=float(rate))


def _value(text: str) -> Setting:
    words: dict[str, Setting] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    numbers = [_number(part) for part in text.split("/")]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers):
        return text
    return known[0] if len(known) == 1 else tuple(known)


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
        return f"{value:g}"
    return between.join(map(_spelled, value)) if isinstance(value, list | tuple) else str(value)
