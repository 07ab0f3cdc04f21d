"""``whichmin leave-out``: what would be without some of the training rows?"""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from whichmin.cli.asked import Asked
from whichmin.cli.options import Budget, Output, Question, option_of
from whichmin.cli.record import Record
from whichmin.cli.tables import aligned, print_json, print_notes, written_to
from whichmin.errors import ConfigError

if TYPE_CHECKING:
    from whichmin.studies.experiment.choices import Choice
    from whichmin.studies.experiment.config import Experiment
    from whichmin.studies.left_out import LeftOut


def leave_out(
    *,
    question: Question = Question(),  # noqa: B008
    groups: Annotated[
        str | None,
        option_of(
            "groups",
            "each: every row alone; a number: so many random halves; or groups of row numbers, separated by "
            "semicolons: 0,5,7;12.",
        ),
    ] = None,
    batches: Annotated[
        Literal["kept", "redrawn"] | None,
        option_of(
            "batches", "kept: mini-batches are those of all rows with some rows taken out; redrawn: drawn again."
        ),
    ] = None,
    group_seed: Annotated[int | None, option_of("group_seed", "Seed of the draw of random halves.")] = None,
    budget: Budget = None,
    workers: Annotated[int, Parameter(help="Processes that predict groups at the same time.")] = 1,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Where training would end without some of its rows, without training again.

    For each group of training rows: the test error without it, how many labels flip, how far the outputs move, and what
    the prediction may be off by. Without options: every row alone of 100 training points of digits 0 against 1, one
    hidden layer of 2048.

    Finished groups are kept: the same command again goes on where it was interrupted.
    """
    line = {"groups": groups, "batches": batches, "group_seed": group_seed, "budget": budget}
    asked = question.asked("leave-out", line)
    choice = asked.single("rows are left out")
    seed = _seed(asked.experiment)
    with contextlib.redirect_stdout(sys.stderr):
        found = _found(choice, seed, asked, workers, output.out)
        from whichmin.report.pages.leave_out import leave_out_page

        record = Record.of_asked(asked, found.task)
        page = leave_out_page(found, asked=record.page(output.out))
        written = written_to(output.out, "leave-out", page, found.to_frame()) | record.write(output.out)
    if output.json:
        print_json(_as_json(found) | {"config": asked.to_dict(), "differences": list(record.differences)}, written)
    else:
        from whichmin.cli.format import headline  # imports torch

        print(headline(asked.experiment), end="\n\n")
        _print(found)
        print_notes(record.differences)
        print(f"\nreport: {written['report']}")
    return int(bool(found.failures))


def _seed(experiment: Experiment) -> int:
    """The initialization.

    Raises:
        ConfigError: there are several.
    """
    first, *others = experiment.initializations
    if others:
        raise ConfigError(
            f"got {1 + len(others)} seeds; rows are left out of one initialization: leave --seeds out, or name one by "
            f"its number and a comma, as in --seeds {others[-1]},"
        )
    return first


def read(groups: Any) -> Any:
    """Groups as they are written on the command line, or as a file has them.

    Raises:
        ConfigError: they are written in another way.
    """
    if groups == "each" or not isinstance(groups, str):
        return groups
    try:
        if groups.isdigit():
            return int(groups)
        return [[int(row) for row in group.split(",")] for group in groups.split(";")]
    except ValueError:
        raise ConfigError(
            f"--groups is {groups!r}; expected each, a number of random halves, or row numbers such as 0,5,7;12."
        ) from None


def _found(choice: Choice, seed: int, asked: Asked, workers: int, out: Path) -> LeftOut:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from whichmin.recipe.recipe import Recipe
    from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
    from whichmin.studies.leave_out import leave_out

    if workers < 1:
        raise ConfigError(f"--workers is {workers}; expected 1 or more.")
    experiment, own = choice.experiment, dict(asked.own)
    groups = read(own.pop("groups"))
    task = build_task(experiment)
    model = build_network(experiment, task, seed)
    recipe = Recipe(build_optimizer(choice.optimizer), experiment.batch_size, experiment.seed).at_initialization(seed)
    limits = {"until": experiment.until, "steps": experiment.steps, "tol": experiment.tol}
    pool = contextlib.nullcontext() if workers == 1 else ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        with pool as executor:
            return leave_out(model, task, recipe, groups, executor=executor, out=out, progress=True, **limits, **own)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished groups are kept in {out / 'runs'}; the same command again goes on from there."
        ) from None


def _print(found: LeftOut) -> None:
    from whichmin.report.leave_out import columns_of, finding, strongest

    columns = columns_of(found)
    rows = [["without", *columns]]
    rows += [[f"group {i}", *(text(i) for text in columns.values())] for i in strongest(found)]
    print(*aligned(rows), sep="\n")
    print("\n" + textwrap.fill(" ".join(finding(found)), 100))
    print_notes([*map(str, found.failures), *found.notes])


def _as_json(found: LeftOut) -> dict[str, Any]:
    frame = found.to_frame().drop(columns=["group", "rows"])
    return {
        "test_error": found.full_loss,
        "full_error": found.full_error,
        "groups": [
            {"rows": group.tolist()} | row for group, row in zip(found.groups, frame.to_dict("records"), strict=True)
        ],
        "failures": [vars(failure) for failure in found.failures],
        "notes": list(found.notes),
    }
