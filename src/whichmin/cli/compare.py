"""``whichmin compare``: do optimizers and batch sizes reach different minimizers?"""

from __future__ import annotations

import contextlib
import json as _json
import math
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from whichmin.errors import ConfigError

if TYPE_CHECKING:
    from whichmin.studies.comparison import Comparison
    from whichmin.studies.experiment.config import Experiment

#: Learning rates that bring the default question to its aim in some hundred steps.
OPTIMIZERS = "sgd:lr=1,sgd:momentum=0.9,lr=0.1,adam:lr=3e-3,adagrad:lr=3e-2,rmsprop:lr=1e-3"


def compare(
    *,
    optimizers: Annotated[
        str,
        Parameter(
            help="What trains, separated by commas; settings follow a colon, as for whichmin explain --optimizer."
        ),
    ] = OPTIMIZERS,
    batch_sizes: Annotated[
        str, Parameter(help="Rows per step, separated by commas, each with every optimizer; none: all of them.")
    ] = "none",
    seeds: Annotated[int, Parameter(help="How many initializations; 6 at least for the default level.")] = 10,
    train: Annotated[bool, Parameter(help="Train for real as well.", negative="", show_default=False)] = False,
    data: Annotated[str, Parameter(help="digits, mnist, fashion-mnist, cifar-10, or a path.")] = "digits",
    classes: Annotated[
        str | None, Parameter(help="The classes to tell apart, such as 3,8; or all. [default: 0,1]", show_default=False)
    ] = None,
    n_train: Annotated[int, Parameter(help="Training points.")] = 100,
    n_test: Annotated[int, Parameter(help="Test points.")] = 100,
    width: Annotated[str, Parameter(("--width", "--hidden"), help="Widths of the hidden layers.")] = "512",
    model: Annotated[
        str | None, Parameter(help="Your own network instead, package.module:factory, called with the seed.")
    ] = None,
    until: Annotated[float, Parameter(help="Training mean square error to stop at.")] = 1e-3,
    max_steps: Annotated[int | None, Parameter(help="Steps to stop at.")] = None,
    tol: Annotated[
        float, Parameter(help="Tolerance of predictions, relative to the targets' standard deviation.")
    ] = 2e-2,
    level: Annotated[float, Parameter(help="Of the test whether a difference is significant.")] = 0.05,
    dtype: Annotated[str, Parameter(help="float32 or float64.")] = "float32",
    device: Annotated[str, Parameter(help="As torch names it.")] = "cpu",
    out: Annotated[Path, Parameter(help="Folder of report.html and of the finished runs.")] = Path("whichmin-out"),
    json: Annotated[bool, Parameter(help="One JSON object instead of the table.", negative="")] = False,
) -> int:
    """Whether optimizers and batch sizes reach different minimizers.

    Every choice starts from the same initializations, and is predicted; with --train it is trained as well. A
    difference is called significant if it is consistent over the initializations and larger than the predictions may be
    off by. Without options: five optimizers in full batches on digits 0 against 1, 100 training points, one hidden layer
    of 512, ten seeds.

    Finished runs are kept: the same command again goes on where it was interrupted.
    """
    from whichmin.studies.experiment.config import Experiment

    sizes = _sizes(batch_sizes)
    own: dict[str, Any] = {"hidden": _widths(width)} if model is None else {"model": model}
    experiment = Experiment(
        data=data, classes=_classes(classes), n_train=n_train, n_test=n_test, optimizer=optimizers, seeds=seeds,
        until=until, max_steps=max_steps, tol=tol, dtype=dtype, device=device, train=train, **own,
    )  # fmt: skip
    asked: dict[str, Any] = {"seeds": seeds, "trained": train, "until": until, "max_steps": max_steps}
    with contextlib.redirect_stdout(sys.stderr):
        found = _compared(experiment, sizes, out, asked | {"tol": tol, "level": level})
        report = (out / "report.html").resolve()
        found.report(report)
    if json:
        config = experiment.to_dict() | {"batch_size": list(sizes), "level": level}
        print(_json.dumps(_as_json(found) | {"config": config, "report": str(report)}, allow_nan=False))
    else:
        _print(found)
        print(f"\nreport: {report}")
    return int(bool(found.failures))


def _compared(experiment: Experiment, sizes: tuple[int | None, ...], out: Path, asked: dict[str, Any]) -> Comparison:
    from whichmin.recipe.recipe import Recipe
    from whichmin.studies.compare import compare
    from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
    from whichmin.studies.experiment.optimizers import labels

    chosen = zip(labels(experiment.optimizer), map(build_optimizer, experiment.optimizer), strict=True)
    named = [
        (
            name if len(sizes) == 1 else f"{name}, {'full batch' if size is None else f'batch {size}'}",
            Recipe(made, size),
        )
        for name, made in chosen
        for size in sizes
    ]
    task = build_task(experiment)
    try:
        return compare(lambda seed: build_network(experiment, task, seed), task, named, progress=True, out=out, **asked)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished runs are kept in {out / 'runs'}; the same command again goes on from there."
        ) from None


def _sizes(text: str) -> tuple[int | None, ...]:
    try:
        return tuple(None if part.strip().lower() == "none" else int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--batch-sizes is {text!r}; expected sizes such as none,10.") from None


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--width is {text!r}; expected widths such as 512 or 600,600.") from None


def _classes(text: str | None) -> Any:
    if text is None or text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    return tuple(int(part) if part.lstrip("-").isdigit() else part for part in parts)


def _print(found: Comparison) -> None:
    from whichmin.report.comparison import by_size, failed, finding, interval, verdict
    from whichmin.report.numbers import MISSING, number, percent

    kinds = ("predicted",) if found.trained is None else ("predicted", "trained")
    errors = [found.test_error_of(getattr(found, kind)) or {} for kind in kinds]
    rows = [["test error", *kinds]]
    _table(rows + [[name, *(interval(kind.get(name)) for kind in errors)] for name in found.names])
    rows = [["distance", *kinds, "shared", "error", "p", "flips", ""]]
    for (one, other), pair in by_size(found):
        effect = pair.best
        assert effect is not None
        ways = [interval(way and way.rms_distance) for way in (getattr(pair, kind) for kind in kinds)]
        off = MISSING if pair.predicted is None else number(pair.predicted.error)
        rest = [number(effect.systematic), off, number(effect.p), percent(effect.flips), verdict(effect)]
        rows.append([f"{one} – {other}", *ways, *rest])
    print()
    _table(rows)
    print("\n" + textwrap.fill(finding(found), 100))
    for text in [*failed(found), *found.notes]:
        print(textwrap.fill(f"note: {text}", 100, subsequent_indent="      "))


def _table(rows: list[list[str]]) -> None:
    sizes = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(size) for cell, size in zip(row[1:], sizes[1:], strict=True)]
        sys.stdout.write("  ".join([row[0].ljust(sizes[0]), *cells]).rstrip() + "\n")


def _as_json(found: Comparison) -> dict[str, Any]:
    from whichmin._version import __version__

    def known(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def plain(of: Any) -> dict[str, Any]:
        return {name: known(value) for name, value in vars(of).items()}

    def effect(of: Any) -> dict[str, Any] | None:
        return (
            None if of is None else plain(of) | {"rms_distance": plain(of.rms_distance), "significant": of.significant}
        )

    kinds = {"predicted": found.predicted} | ({} if found.trained is None else {"trained": found.trained})
    return {
        "whichmin": __version__,
        "test_error": {
            kind: {name: plain(e) for name, e in (found.test_error_of(outputs) or {}).items()}
            for kind, outputs in kinds.items()
        },
        "pairs": [
            {"one": one, "other": other, "predicted": effect(pair.predicted), "trained": effect(pair.trained)}
            for (one, other), pair in found.pairs.items()
        ],
        "failures": [plain(failure) for failure in found.failures],
        "notes": list(found.notes),
    }
