"""``whichmin mitigate``: which remedy brings a better minimizer?"""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from whichmin.cli.asked import Asked
from whichmin.cli.options import Budget, Level, Output, Question, option_of
from whichmin.cli.record import Record
from whichmin.cli.tables import aligned, finite, print_json, print_notes, written_to

if TYPE_CHECKING:
    from whichmin.mitigation.mitigation import Mitigation
    from whichmin.studies.experiment.choices import Choice
    from whichmin.task import Task


def mitigate(
    *,
    question: Question = Question(),  # noqa: B008
    methods: Annotated[
        str | None, option_of("methods", "Remedies separated by commas, such as scale_search,centered; or all.")
    ] = None,
    train: Annotated[
        str | None,
        Parameter(
            help="What is trained: best, all (every scale of the search too), none, or remedies by name. "
            "[default: best]",
            show_default=False,
        ),
    ] = None,
    validation: Annotated[
        float | None, option_of("validation", "The share of the training points that chooses the remedy.")
    ] = None,
    level: Level = None,
    budget: Budget = None,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Which remedy brings a better minimizer, before it is trained.

    Smaller scales, copies that cancel, centering, subtraction, a last layer of zeros, an ensemble: each is predicted,
    its loss on held-out training points is compared with that of the network as it is, and the best is trained. Where
    no gain is significant, the answer is to leave it as it is. Without options: digits 0 against 1, 100 training
    points, one hidden layer of 512, one initialization.

    Each initialization has a report and a folder with its result; Ctrl-C keeps what is finished.
    """
    line = {"methods": methods, "train": train, "validation": validation, "level": level, "budget": budget}
    asked = question.asked("mitigate", line)
    choice = asked.single("remedies are tried")
    found: list[Mitigation] = []
    files: list[dict[str, Path]] = []
    seeds = asked.experiment.initializations
    for seed in seeds:
        with contextlib.redirect_stdout(sys.stderr):
            from whichmin.report.pages.mitigation import mitigation_page
            from whichmin.studies.experiment.build import build_task

            task = build_task(asked.experiment)
            mitigation = _mitigated(choice, task, seed, asked)
            record = Record.of_asked(asked, task)
            suffix = "" if len(seeds) == 1 else f"-{seed}"
            mitigation.save(output.out / f"mitigation{suffix}")
            page = mitigation_page(mitigation, asked=record.page(output.out) | {"initialization": seed})
            written = written_to(output.out, f"mitigate{suffix}", page, mitigation.to_frame())
            files.append(written | record.write(output.out))
        found.append(mitigation)
        if mitigation.interrupted:
            raise KeyboardInterrupt(f"what was finished is in {files[-1]['report']}.")
        if not output.json:
            _print(mitigation, seed if len(seeds) > 1 else None)
            print_notes(record.differences)
            print(f"\nreport: {files[-1]['report']}")
    if output.json:
        objects = [
            _as_json(mitigation) | {name: str(path) for name, path in written.items()}
            for mitigation, written in zip(found, files, strict=True)
        ]
        print_json({"seeds": objects, "config": asked.to_dict()})
    return int(any(remedy.failure for mitigation in found for remedy in mitigation.remedies))


def _names(said: str | list[str], *words: str) -> str | list[str]:
    """Remedies by name, or one of the words that stand for some."""
    if not isinstance(said, str) or said in words:
        return said
    return [name.strip() for name in said.split(",")]


def _mitigated(choice: Choice, task: Task, seed: int, asked: Asked) -> Mitigation:
    from whichmin.mitigation.mitigate import mitigate
    from whichmin.recipe.recipe import Recipe
    from whichmin.studies.experiment.build import build_network, build_optimizer

    experiment = choice.experiment
    recipe = Recipe(build_optimizer(choice.optimizer), experiment.batch_size, experiment.seed).at_initialization(seed)
    own = dict(asked.own)
    own |= {"methods": _names(own["methods"], "all"), "train": _names(own["train"], "best", "all", "none")}
    return mitigate(
        build_network(experiment, task, seed),
        task,
        recipe,
        until=experiment.until,
        steps=experiment.steps,
        tol=experiment.tol,
        progress=True,
        **own,
    )


def _print(mitigation: Mitigation, seed: int | None) -> None:
    from whichmin.report.mitigation import brief_tables, failures, finding

    if seed is not None:
        print(f"initialization {seed}")
    for rows in brief_tables(mitigation):
        print(*aligned(rows), "", sep="\n")
    print(textwrap.fill(" ".join(finding(mitigation)), 100))
    print_notes([*failures(mitigation), *mitigation.notes])


def _as_json(mitigation: Mitigation) -> dict[str, Any]:
    rows = mitigation.to_frame().to_dict("records")
    searches = {
        kind: {"scales": list(search.scales), "losses": list(search.losses), "p": list(map(finite, search.p))}
        | {"scale": search.scale, "reason": search.reason}
        for remedy in mitigation.remedies
        for kind, search in (("predicted", remedy.search), ("trained", remedy.trained_search))
        if search is not None
    }
    return {
        "best": mitigation.best,
        "remedies": [{str(name): finite(value) for name, value in row.items()} for row in rows],
        "search": searches,
        "notes": list(mitigation.notes),
    }
