"""``whichmin mitigate``: which remedy brings a better minimizer?"""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from whichmin.cli.options import Mitigating, Output
from whichmin.cli.tables import aligned, finite, print_json, written_to

if TYPE_CHECKING:
    from whichmin.mitigation.mitigation import Mitigation
    from whichmin.studies.experiment.config import Experiment


def mitigate(
    *,
    question: Mitigating = Mitigating(),  # noqa: B008
    methods: Annotated[
        str, Parameter(help="Remedies separated by commas, such as scale_search,centered; or all.")
    ] = "all",
    train: Annotated[
        str, Parameter(help="What is trained: best, all (every scale of the search too), none, or remedies by name.")
    ] = "best",
    validation: Annotated[float, Parameter(help="The share of the training points that chooses the remedy.")] = 0.2,
    level: Annotated[float, Parameter(help="Of the test whether a remedy is better.")] = 0.05,
    budget: Annotated[
        float | None, Parameter(help="Seconds for each initialization. [default: no end]", show_default=False)
    ] = None,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Which remedy brings a better minimizer, before it is trained.

    Smaller scales, copies that cancel, centering, subtraction, a last layer of zeros, an ensemble: each is predicted,
    its loss on held-out training points is compared with that of the network as it is, and the best is trained. Where
    no gain is significant, the answer is to leave it as it is. Without options: digits 0 against 1, 100 training
    points, one hidden layer of 512, one initialization.

    Each initialization has a report and a folder with its result; Ctrl-C keeps what is finished.
    """
    experiment = question.mitigation()
    tried = methods if methods == "all" else _names(methods)
    trained = train if train in ("best", "all", "none") else _names(train)
    asked = {"methods": tried, "train": trained, "validation": validation, "level": level, "budget": budget}
    found: list[Mitigation] = []
    files: list[dict[str, Path]] = []
    for seed in range(experiment.seeds):
        with contextlib.redirect_stdout(sys.stderr):
            mitigation = _mitigated(experiment, seed, asked)
            suffix = "" if experiment.seeds == 1 else f"-{seed}"
            mitigation.save(output.out / f"mitigation{suffix}")
            files.append(written_to(output.out, mitigation.report, mitigation.to_frame(), suffix))
        found.append(mitigation)
        if mitigation.interrupted:
            raise KeyboardInterrupt(f"what was finished is in {files[-1]['report']}.")
        if not output.json:
            _print(mitigation, seed if experiment.seeds > 1 else None)
            print(f"\nreport: {files[-1]['report']}")
    if output.json:
        seeds = [
            _as_json(mitigation) | {name: str(path) for name, path in written.items()}
            for mitigation, written in zip(found, files, strict=True)
        ]
        print_json({"seeds": seeds, "config": experiment.to_dict() | asked})
    return int(any(remedy.failure for mitigation in found for remedy in mitigation.remedies))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _mitigated(experiment: Experiment, seed: int, asked: dict[str, Any]) -> Mitigation:
    from whichmin.mitigation.mitigate import mitigate
    from whichmin.recipe.recipe import Recipe
    from whichmin.studies.experiment.build import build_network, build_optimizer, build_task

    task = build_task(experiment)
    factory = build_optimizer(experiment.optimizer[0])
    recipe = Recipe(factory, experiment.batch_size, experiment.seed).at_initialization(seed)
    return mitigate(
        build_network(experiment, task, seed),
        task,
        recipe,
        until=experiment.until,
        steps=experiment.steps,
        tol=experiment.tol,
        progress=True,
        **asked,
    )


def _print(mitigation: Mitigation, seed: int | None) -> None:
    from whichmin.report.mitigation import brief_tables, failures, finding

    if seed is not None:
        print(f"initialization {seed}")
    for rows in brief_tables(mitigation):
        print(*aligned(rows), "", sep="\n")
    print(textwrap.fill(" ".join(finding(mitigation)), 100))
    for text in [*failures(mitigation), *mitigation.notes]:
        print(textwrap.fill(f"note: {text}", 100, subsequent_indent="      "))


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
