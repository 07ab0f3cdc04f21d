"""The options that the commands share, each declared once; how they and a file become a question is in ``asked``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from whichmin.cli.asked import DEFAULTS, OWN, Asked, ask
from whichmin.errors import ConfigError
from whichmin.studies.experiment.config import LEAST_AT_TARGETS, LOSSES, Experiment
from whichmin.studies.experiment.optimizers import known, with_best_rate

T = TypeVar("T")


def _rates() -> str:
    """The default learning rates, the optimizers of each together."""
    by_rate: dict[str, list[str]] = {}
    for name, facts in known().items():
        rate = facts.default_lr
        if rate is not None:
            by_rate.setdefault(rate if isinstance(rate, str) else f"{rate:g}", []).append(name)
    said = [f"{rate} for {', '.join(names)}" for rate, names in by_rate.items()]
    without = ", ".join(name for name, facts in known().items() if facts.default_lr is None)
    return "; ".join(said) + f"; none for {without}; your own class has its own"


_ENDLESS = ", ".join(name for name in LOSSES if name not in LEAST_AT_TARGETS)
_EXPERIMENT = {field.name: field.default for field in dataclasses.fields(Experiment)}


def option_of(name: str, text: str, default: str | None = None) -> Parameter:
    """An option whose help ends with its default, and those of the commands that have another.

    Args:
        name: its key.
        text: what it says.
        default: the default in words; None for the experiment's own.
    """
    said = [_spelled(_EXPERIMENT[name]) if default is None else default] if name in _EXPERIMENT else []
    by_default: dict[str, list[str]] = {}
    for command, values in (*DEFAULTS.items(), *OWN.items()):
        if name in values:
            by_default.setdefault(_spelled(values[name]), []).append(command)
    said += [f"{', '.join(commands)}: {value}" if said else value for value, commands in by_default.items()]
    return Parameter(help=f"{text} [default: {'; '.join(said)}]", show_default=False)


def _spelled(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return ",".join(map(_spelled, value)) if isinstance(value, tuple) else str(value)


@Parameter(name="*")
@dataclass(frozen=True)
class Data:
    """Options that say which data; None where the command line says nothing."""

    data: Annotated[
        str | None,
        option_of(
            "data",
            "digits, mnist, fashion-mnist or cifar-10, openml:NUMBER, or a path: IDX or CIFAR-10 files, a folder of "
            "images for each class, an .npz file, a table as .csv or .parquet.",
        ),
    ] = None
    target: Annotated[str | None, option_of("target", "Of a table: the column of targets.")] = None
    test: Annotated[float | None, option_of("test", "Of a table: the share of its rows to test on.")] = None
    standardize: Annotated[
        bool | None, option_of("standardize", "Of a table: whether numbers get mean 0 and standard deviation 1.")
    ] = None
    classes: Annotated[
        str | None, option_of("classes", "The classes to tell apart, such as 3,8; or all.", default="0,1; linear: all")
    ] = None
    n_train: Annotated[int | None, option_of("n_train", "Training points.", default="100; of a table all rows")] = None
    data_seed: Annotated[int | None, option_of("data_seed", "Seed of the draw of the points.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Networks(Data):
    """Options that say which data, how many initializations, and how wide the networks are."""

    hidden: Annotated[
        str | None,
        option_of(
            "hidden",
            "Widths of the hidden layers, joined by hyphens: 600-600; for a cnn the channels. Several networks are "
            "separated by commas: 128,512,600-600.",
            default="2048; of a cnn 64-64-64",
        ),
    ] = None
    seeds: Annotated[
        str | None,
        option_of("seeds", "How many initializations, or their numbers separated by commas: 0,4,7."),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Asking(Networks):
    """Options that describe an experiment; None where the command line says nothing."""

    n_test: Annotated[int | None, option_of("n_test", "Test points.", default="100; of a table --test of the rows")] = (
        None
    )
    loss: Annotated[
        str | None,
        option_of(
            "loss",
            f"What training minimizes: {', '.join(LOSSES)}.",
            default="mse; cross-entropy of a table whose target is text",
        ),
    ] = None
    network: Annotated[str | None, option_of("network", "mlp or cnn.")] = None
    parametrization: Annotated[str | None, option_of("parametrization", "ntk or standard.")] = None
    activation: Annotated[str | None, option_of("activation", "relu, leaky_relu, erf, tanh, gelu or linear.")] = None
    bias: Annotated[bool | None, option_of("bias", "Whether layers have biases.")] = None
    scale: Annotated[
        str | None, option_of("scale", "The factor in front of every layer; or several, separated by commas.")
    ] = None
    model: Annotated[
        str | None, option_of("model", "Your own network, package.module:factory, called with the seed.")
    ] = None
    optimizer: Annotated[
        str | None,
        option_of(
            "optimizer",
            "What trains; or several, separated by commas: sgd,adam,adagrad. Settings follow a colon: "
            "sgd:momentum=0.9,nesterov=true,adam:betas=0.9/0.99, and belong to the name before them. Names: "
            f"{', '.join(known())}; or your own, package.module:Class.",
        ),
    ] = None
    lr: Annotated[
        str | None,
        option_of(
            "lr",
            "Learning rate: a number; separated by commas one for each optimizer, or several for one. best, of "
            f"{', '.join(with_best_rate())}: the best rate of gradient descent, or half of the optimizer's limit of "
            "stability where that is lower. half, of the same: half of that limit. monotone, of any: the largest at "
            "which the training loss falls at every step.",
            default=_rates(),
        ),
    ] = None
    batch_size: Annotated[
        str | None,
        option_of(
            "batch_size",
            "Rows per step, or none for all of them; or several, separated by commas: none,10,32.",
        ),
    ] = None
    seed: Annotated[int | None, option_of("seed", "Seed of the order of the batches.")] = None
    until: Annotated[
        float | None,
        option_of(
            "until",
            "Training loss to stop at.",
            default=f"1e-05; none with --steps, and none with {_ENDLESS}: give it or --steps",
        ),
    ] = None
    steps: Annotated[int | None, option_of("steps", "At most so many steps.")] = None
    tol: Annotated[
        float | None,
        option_of(
            "tol",
            "Tolerance of the prediction, relative to the standard deviation of the targets, or of the predicted "
            "training outputs with cross-entropy and its like.",
        ),
    ] = None
    dtype: Annotated[str | None, option_of("dtype", "float32 or float64.")] = None
    device: Annotated[str | None, option_of("device", "As torch names it: cpu, cuda, cuda:1.")] = None


Config = Annotated[
    Path | None,
    Parameter(
        help="A .toml or .json file of these options (n_train = 100); the command line wins.", show_default=False
    ),
]
Train = Annotated[
    bool | None,
    Parameter(
        help="Train for real as well; without, the prediction takes its place. "
        "[default: explain: yes; compare, sweep: no]",
        negative="--no-train",
        show_default=False,
    ),
]
Level = Annotated[float | None, option_of("level", "Of the tests, all pairs or remedies together.")]
Budget = Annotated[float | None, option_of("budget", "Seconds after which it stops with what is finished.")]


@Parameter(name="*")
@dataclass(frozen=True)
class Question(Asking):
    """Options that describe an experiment, on the command line and in a file."""

    config: Config = None

    def asked(self, command: str, own: dict[str, Any] | None = None, **fixed: Any) -> Asked:
        """What is asked of a command: the command line over the file over the defaults.

        Args:
            command: its name.
            own: what the command line says of the command's own options; None where it says nothing.
            **fixed: what the command itself says, over all of them; None where it says nothing.

        Raises:
            ConfigError: an unknown key, or a value that cannot be used.
        """
        fixed = {name: value for name, value in fixed.items() if value is not None}
        return ask(command, parsed(self) | (own or {}), self.config, **fixed)


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """Where the answer goes."""

    out: Annotated[Path, Parameter(help="Folder of the report, its numbers and finished runs.")] = Path("whichmin-out")
    json: Annotated[
        bool,
        Parameter(help="One JSON object on standard output instead of the table.", negative="", show_default=False),
    ] = False


def parsed(options: Data) -> dict[str, Any]:
    """What the command line says, by key, as a file says it; what it does not say is left out."""
    said = {field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.name != "config"}
    return {name: _READ[name](value) if name in _READ else value for name, value in said.items() if value is not None}


def listed(name: str, text: str, read: Callable[[str], T], expected: str) -> list[T]:
    """Values that are separated by commas.

    Args:
        name: the option's key.
        text: what was written.
        read: makes a value of a part, or raises ValueError.
        expected: the end of the message.

    Raises:
        ConfigError: a part that is none.
    """
    parts = text.split(",")
    try:
        return [read(part.strip()) for part in (parts[:-1] if parts[-1] == "" and len(parts) > 1 else parts)]
    except ValueError:
        raise ConfigError(f"--{name.replace('_', '-')} is {text!r}; expected {expected}.") from None


def _classes(text: str) -> Any:
    return text if text == "all" else [_number(part) for part in text.split(",")]


def _hidden(text: str) -> Any:
    expected = "widths such as 2048, or 600-600 for two layers; several networks are separated by commas"
    return listed("hidden", text, lambda part: [int(width) for width in part.split("-")], expected)


def _seeds(text: str) -> Any:
    numbers = listed("seeds", text, int, "how many, such as 5, or their numbers, separated by commas")
    return numbers if "," in text else numbers[0]


def _scale(text: str) -> Any:
    return _alone(listed("scale", text, float, "a positive number, or several separated by commas"))


def _lr(text: str) -> Any:
    def rate(part: str) -> float | str:
        return part if part in ("best", "half", "monotone") else float(part)

    rates = listed(
        "lr", text, rate, "'best', 'half', 'monotone' or a positive number, or several of them separated by commas"
    )
    return _alone(rates)


def _batch_size(text: str) -> Any:
    def rows(part: str) -> int | str:
        return "none" if part.lower() == "none" else int(part)

    return _alone(listed("batch_size", text, rows, "sizes such as none,10"))


def _alone(values: list[Any]) -> Any:
    """A list of several values, or the only one."""
    return values[0] if len(values) == 1 else values


_READ: dict[str, Callable[[str], Any]] = {
    "classes": _classes,
    "hidden": _hidden,
    "seeds": _seeds,
    "scale": _scale,
    "lr": _lr,
    "batch_size": _batch_size,
}


def _number(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text.strip()
