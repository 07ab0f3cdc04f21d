"""The options that the commands share, and how they and a configuration file become an experiment."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from whichmin.errors import ConfigError
from whichmin.studies.experiment.config import LEAST_AT_TARGETS, LOSSES, Experiment, read_config
from whichmin.studies.experiment.optimizers import known, with_best_rate

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Experiment)}


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


_RATES = _rates()
_HIDDEN_HELP = "Widths of the hidden layers, such as 600,600; for a cnn the channels."
_OPTIMIZER_HELP = (
    "What trains; several separated by commas are compared: sgd,adam,adagrad. Settings follow a colon: "
    f"sgd:momentum=0.9,nesterov=true,adam:betas=0.9/0.99. Names: {', '.join(known())}; or your own, "
    "package.module:Class."
)
_LOSS_HELP = f"What training minimizes: {', '.join(LOSSES)}."
_UNTIL_HELP = "Training loss to stop at."
_NO_UNTIL = f"; none with {', '.join(name for name in LOSSES if name not in LEAST_AT_TARGETS)}, give it or --steps"
_TOL_HELP = (
    "Tolerance of the prediction, relative to the standard deviation of the targets, or of the predicted training "
    "outputs with cross-entropy and its like."
)
_COUNTED = "100; of a table all rows"
#: Widths of the hidden layers where many networks are predicted.
_NARROW = (512,)


def _option(field: str, text: str, default: str | None = None) -> Parameter:
    """An option of an experiment's field; its help ends with the experiment's own default."""
    shown = str(_DEFAULTS[field]) if default is None else default
    return Parameter(help=f"{text} [default: {shown}]", show_default=False)


@Parameter(name="*")
@dataclass(frozen=True)
class Question:
    """Options that describe an experiment; None where the command line says nothing."""

    data: Annotated[
        str | None,
        _option(
            "data",
            "digits, mnist, fashion-mnist or cifar-10, openml:NUMBER, or a path: IDX or CIFAR-10 files, a folder of "
            "images for each class, an .npz file, a table as .csv or .parquet.",
        ),
    ] = None
    target: Annotated[str | None, _option("target", "Of a table: the column of targets.", default="none")] = None
    test: Annotated[float | None, _option("test", "Of a table: the share of its rows to test on.")] = None
    standardize: Annotated[
        bool | None,
        _option("standardize", "Of a table: whether numbers get mean 0 and standard deviation 1.", default="yes"),
    ] = None
    classes: Annotated[
        str | None, _option("classes", "The classes to tell apart, such as 3,8; or all.", default="0,1")
    ] = None
    n_train: Annotated[int | None, _option("n_train", "Training points.", default=_COUNTED)] = None
    n_test: Annotated[int | None, _option("n_test", "Test points.", default=_COUNTED)] = None
    data_seed: Annotated[int | None, _option("data_seed", "Seed of the draw of both.")] = None
    loss: Annotated[str | None, _option("loss", _LOSS_HELP)] = None
    network: Annotated[str | None, _option("network", "mlp or cnn.")] = None
    hidden: Annotated[
        str | None,
        _option("hidden", _HIDDEN_HELP, default="2048; for a cnn 64,64,64"),
    ] = None
    parametrization: Annotated[str | None, _option("parametrization", "ntk or standard.")] = None
    activation: Annotated[str | None, _option("activation", "relu, leaky_relu, erf, tanh, gelu or linear.")] = None
    bias: Annotated[bool | None, _option("bias", "Whether layers have biases.", default="no")] = None
    scale: Annotated[float | None, _option("scale", "The factor in front of every layer.")] = None
    model: Annotated[
        str | None,
        _option("model", "Your own network, package.module:factory, called with the seed.", default="none"),
    ] = None
    seeds: Annotated[int | None, _option("seeds", "How many initializations.")] = None
    optimizer: Annotated[
        str | None,
        _option("optimizer", _OPTIMIZER_HELP),
    ] = None
    lr: Annotated[
        str | None,
        _option(
            "lr",
            "Learning rate: a number, or one for each optimizer separated by commas. best, of "
            + ", ".join(with_best_rate())
            + ": "
            "the best rate of gradient descent, or half of the optimizer's limit of stability where that is lower. "
            "half, of the same: half of that limit. "
            "monotone, of any: the largest at which the training loss falls at every step.",
            default=_RATES,
        ),
    ] = None
    batch_size: Annotated[int | None, _option("batch_size", "Rows per step.", default="all of them")] = None
    seed: Annotated[int | None, _option("seed", "Seed of the order of the batches.")] = None
    until: Annotated[float | None, _option("until", _UNTIL_HELP, default=f"1e-5{_NO_UNTIL}")] = None
    steps: Annotated[int | None, _option("steps", "At most so many steps.", default="none")] = None
    tol: Annotated[float | None, _option("tol", _TOL_HELP)] = None
    dtype: Annotated[str | None, _option("dtype", "float32 or float64.")] = None
    device: Annotated[str | None, _option("device", "As torch names it: cpu, cuda, cuda:1.")] = None
    config: Annotated[
        Path | None,
        Parameter(
            help="A .toml or .json file of these options (n_train = 100); the command line wins.", show_default=False
        ),
    ] = None

    def experiment(self, **fixed: Any) -> Experiment:
        """The experiment: the command line over the file over the defaults.

        Args:
            **fixed: what the command itself says, over all of them; None where it says nothing.

        Raises:
            ConfigError: an unknown key, or a value that cannot be used.
        """
        return Experiment.from_mapping(self._values() | _known(fixed), self._source)

    def _with_defaults(self, defaults: dict[str, Any], said: dict[str, Any]) -> Experiment:
        """The experiment with defaults that are not its own, and a narrower network."""
        values = defaults | said
        if values.get("loss", _DEFAULTS["loss"]) not in LEAST_AT_TARGETS and "until" not in said:
            del values["until"]
        if values.get("model") is None and values.get("network", "mlp") == "mlp":
            values.setdefault("hidden", _NARROW)
        return Experiment.from_mapping(values, self._source)

    @property
    def _source(self) -> str:
        return "the command line" if self.config is None else str(self.config)

    def _values(self) -> dict[str, Any]:
        """What the command line says over what the file says."""
        said = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "config"}
        said = {name: _parsed(name, value) for name, value in _known(said).items()}
        file = {} if self.config is None else read_config(self.config)
        return {name.replace("-", "_"): value for name, value in file.items()} | said


#: The defaults of a comparison that are not an experiment's: learning rates that bring it to its aim in some hundred
#: steps, and a network and tolerances with which five optimizers and ten seeds take a minute.
_COMPARED: dict[str, Any] = {
    "optimizer": "sgd:lr=1,sgd:momentum=0.9,lr=0.1,adam:lr=3e-3,adagrad:lr=3e-2,rmsprop:lr=1e-3",
    "seeds": 10,
    "until": 1e-3,
    "tol": 2e-2,
    "train": False,
}


def _compared(field: str, text: str) -> Parameter:
    return _option(field, text, default=str(_COMPARED[field]))


@Parameter(name="*")
@dataclass(frozen=True)
class Comparing(Question):
    """Options of a comparison: those of an experiment, with several batch sizes and some defaults of its own."""

    hidden: Annotated[str | None, _option("hidden", _HIDDEN_HELP, default="512; for a cnn 64,64,64")] = None
    seeds: Annotated[int | None, _compared("seeds", "How many initializations; 6 at least for the default level.")] = (
        None
    )
    optimizer: Annotated[str | None, _compared("optimizer", _OPTIMIZER_HELP)] = None
    batch_size: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        str | None,
        _option(
            "batch_size",
            "Rows per step; several separated by commas are each taken with every optimizer, none is all rows.",
            default="none",
        ),
    ] = None
    until: Annotated[float | None, _option("until", _UNTIL_HELP, default=f"{_COMPARED['until']}{_NO_UNTIL}")] = None
    tol: Annotated[float | None, _compared("tol", _TOL_HELP)] = None

    def comparison(self, **fixed: Any) -> tuple[Experiment, tuple[int | None, ...]]:
        """The experiment, and the batch sizes with which each of its optimizers is compared.

        Args:
            **fixed: as for :meth:`experiment`.

        Raises:
            ConfigError: an unknown key, or a value that cannot be used.
        """
        said = self._values() | _known(fixed)
        sizes = said.pop("batch_size", "none")
        experiment = self._with_defaults(_COMPARED, said)
        several = sizes if isinstance(sizes, list | tuple) else _sizes(str(sizes))
        several = [None if size == "none" else size for size in several]
        return experiment, tuple(dataclasses.replace(experiment, batch_size=size).batch_size for size in several)


@Parameter(name="*")
@dataclass(frozen=True)
class LeavingOut(Question):
    """Options of an experiment of one initialization, number 0, and one optimizer."""

    seeds: Annotated[int | None, Parameter(show=False)] = None

    def single(self) -> Experiment:
        """The experiment.

        Raises:
            ConfigError: several initializations or optimizers, an unknown key, or a value that cannot be used.
        """
        experiment = Experiment.from_mapping({"seeds": 1} | self._values(), self._source)
        if experiment.seeds != 1 or len(experiment.optimizer) != 1:
            raise ConfigError(
                f"got {experiment.seeds} seeds and {len(experiment.optimizer)} optimizers; leaving rows out is about "
                "one network and one optimizer: leave seeds out, and name one optimizer."
            )
        return experiment


#: The defaults of a search for a better minimizer that are not an experiment's: a learning rate below the edge of
#: stability, where paths are predicted without training, and a network with which all remedies take a minute.
_MITIGATED: dict[str, Any] = {"optimizer": "sgd:lr=1", "seeds": 1, "until": 1e-3, "tol": 2e-2}


def _mitigated(field: str, text: str) -> Parameter:
    return _option(field, text, default=str(_MITIGATED[field]))


@Parameter(name="*")
@dataclass(frozen=True)
class Mitigating(Question):
    """Options of a search for a better minimizer: those of an experiment, with some defaults of its own."""

    hidden: Annotated[str | None, _option("hidden", _HIDDEN_HELP, default="512; for a cnn 64,64,64")] = None
    seeds: Annotated[int | None, _mitigated("seeds", "How many initializations, each with a report of its own.")] = None
    optimizer: Annotated[str | None, _mitigated("optimizer", _OPTIMIZER_HELP)] = None
    until: Annotated[float | None, _option("until", _UNTIL_HELP, default=f"{_MITIGATED['until']}{_NO_UNTIL}")] = None
    tol: Annotated[float | None, _mitigated("tol", _TOL_HELP)] = None

    def mitigation(self) -> Experiment:
        """The experiment.

        Raises:
            ConfigError: an unknown key, a value that cannot be used, or several optimizers.
        """
        experiment = self._with_defaults(_MITIGATED, self._values())
        if len(experiment.optimizer) > 1:
            raise ConfigError(
                f"--optimizer names {len(experiment.optimizer)} of them; remedies are tried with one: name one of "
                "them, or ask whichmin compare."
            )
        return experiment


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True)
class Output:
    """Where the answer goes."""

    out: Annotated[Path, Parameter(help="Folder of report.html, results.csv and runs.")] = Path("whichmin-out")
    json: Annotated[
        bool,
        Parameter(help="One JSON object on standard output instead of the table.", negative="", show_default=False),
    ] = False


def _parsed(name: str, value: Any) -> Any:
    if name == "classes":
        return value if value == "all" else tuple(_number(part) for part in value.split(","))
    if name == "hidden":
        try:
            return tuple(int(part) for part in value.split(","))
        except ValueError:
            raise ConfigError(f"--hidden is {value!r}; expected widths such as 2048 or 600,600.") from None
    if name == "batch_size" and isinstance(value, str):
        return _sizes(value)
    if name == "lr":
        rates = tuple(_rate(part.strip(), value) for part in value.split(","))
        return rates[0] if len(rates) == 1 else rates
    return value


def _rate(text: str, said: str) -> float | str:
    try:
        return text if text in ("best", "half", "monotone") else float(text)
    except ValueError:
        raise ConfigError(
            f"--lr is {said!r}; expected 'best', 'half', 'monotone' or a positive number, or one for each optimizer, "
            "separated by commas."
        ) from None


def _sizes(text: str) -> tuple[int | None, ...]:
    try:
        return tuple(None if part.strip().lower() == "none" else int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--batch-size is {text!r}; expected sizes such as none,10.") from None


def _number(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text.strip()
