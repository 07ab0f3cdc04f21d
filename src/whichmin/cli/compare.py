"""``whichmin compare``: do optimizers and batch sizes reach different minimizers?"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from whichmin.cli.options import Comparing, Output
from whichmin.cli.tables import aligned, print_json, written_to

if TYPE_CHECKING:
    from torch import Tensor

    from whichmin.studies.comparison import Comparison
    from whichmin.studies.effects import Effect, Estimate
    from whichmin.studies.experiment.config import Experiment


def compare(
    *,
    question: Comparing = Comparing(),  # noqa: B008
    train: Annotated[
        bool | None, Parameter(help="Train for real as well. [default: no]", negative="--no-train", show_default=False)
    ] = None,
    level: Annotated[float, Parameter(help="Of the tests of all pairs together.")] = 0.05,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Whether optimizers and batch sizes reach different minimizers.

    Every optimizer with every batch size starts from the same initializations, and is predicted; with --train it is
    trained as well. Two questions are answered of each pair: do they reach different minimizers from the same
    initialization, and do they differ beyond the seed, in what all initializations share? Either counts where it is
    larger than the predictions may be off by. Without options: five optimizers in full batches on digits 0 against 1,
    100 training points, one hidden layer of 512, ten seeds.

    Finished runs are kept: the same command again goes on where it was interrupted.
    """
    experiment, sizes = question.comparison(train=train)
    with contextlib.redirect_stdout(sys.stderr):
        comparison = _compared(experiment, sizes, level, output.out)
        written = written_to(output.out, comparison.report, comparison.to_frame())
    if output.json:
        config = experiment.to_dict() | {"batch_size": list(sizes), "level": level}
        print_json(_as_json(comparison) | {"config": config}, written)
    else:
        _print(comparison)
        print(f"\nreport: {written['report']}")
    return int(bool(comparison.failures))


def _compared(experiment: Experiment, sizes: tuple[int | None, ...], level: float, out: Path) -> Comparison:
    from whichmin.recipe.recipe import Recipe
    from whichmin.studies.compare import compare
    from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
    from whichmin.studies.experiment.optimizers import labels

    factories = zip(labels(experiment.optimizer), map(build_optimizer, experiment.optimizer), strict=True)
    recipes = [
        (
            name if len(sizes) == 1 else f"{name}, {'full batch' if size is None else f'batch {size}'}",
            Recipe(factory, size, experiment.seed),
        )
        for name, factory in factories
        for size in sizes
    ]
    task = build_task(experiment)
    try:
        return compare(
            lambda seed: build_network(experiment, task, seed),
            task,
            recipes,
            experiment.seeds,
            train=experiment.train,
            until=experiment.until,
            steps=experiment.steps,
            tol=experiment.tol,
            level=level,
            progress=True,
            out=out,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished runs are kept in {out / 'runs'}; the same command again goes on from there."
        ) from None


def _print(comparison: Comparison) -> None:
    from whichmin.report.comparison import by_size, failure_sentences, finding, interval, verdict
    from whichmin.report.numbers import MISSING, number, percent

    kinds = ("predicted",) if comparison.trained is None else ("predicted", "trained")
    outputs = [getattr(comparison, kind) for kind in kinds]
    tables = {f"test error ({comparison.task.loss.label})": [comparison.test_error_of(of) for of in outputs]}
    tables["accuracy"] = [comparison.accuracy_of(of) for of in outputs]
    for title, columns in tables.items():
        known = [column for column in columns if column is not None]
        if known:
            rows = [[title, *kinds], *([name, *(interval(of[name]) for of in known)] for name in comparison.names)]
            print(*aligned(rows), "", sep="\n")
    rows = [["distance of outputs", *kinds, "error", "p", "different", "shared", "p", "beyond the seed", "flips"]]
    for (one, other), pair in by_size(comparison):
        effect = pair.best
        assert effect is not None
        ways = [interval(way and way.paired.distance) for way in (getattr(pair, kind) for kind in kinds)]
        off = MISSING if pair.predicted is None else number(pair.predicted.paired.error)
        paired = [off, number(effect.paired.p_adjusted), verdict(effect.paired)]
        shared = effect.systematic
        beyond = [interval(shared.distance), number(shared.p_adjusted), verdict(shared)]
        rows.append([f"{one} – {other}", *ways, *paired, *beyond, percent(effect.flips)])
    print(*aligned(rows), sep="\n")
    print("\n" + textwrap.fill(" ".join(finding(comparison)), 100))
    for text in [*failure_sentences(comparison), *comparison.notes]:
        print(textwrap.fill(f"note: {text}", 100, subsequent_indent="      "))


def _as_json(comparison: Comparison) -> dict[str, Any]:
    def plain(of: Any) -> dict[str, Any]:
        return dict(vars(of))

    def effect(of: Effect | None) -> dict[str, Any] | None:
        if of is None:
            return None
        answers = {"different": of.paired.significant, "significant": of.systematic.significant}
        return dataclasses.asdict(of) | answers

    kinds = {"predicted": comparison.predicted} | (
        {} if comparison.trained is None else {"trained": comparison.trained}
    )

    def of_recipes(numbers: Callable[[dict[str, Tensor]], dict[str, Estimate] | None]) -> dict[str, Any]:
        found = {kind: numbers(outputs) or {} for kind, outputs in kinds.items()}
        return {kind: {name: plain(e) for name, e in estimates.items()} for kind, estimates in found.items()}

    return {
        "test_error": of_recipes(comparison.test_error_of),
        **({} if comparison.accuracy is None else {"accuracy": of_recipes(comparison.accuracy_of)}),
        "pairs": [
            {"one": one, "other": other, "predicted": effect(pair.predicted), "trained": effect(pair.trained)}
            for (one, other), pair in comparison.pairs.items()
        ],
        "failures": [plain(failure) for failure in comparison.failures],
        "notes": list(comparison.notes),
    }
