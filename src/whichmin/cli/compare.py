"""``whichmin compare``: do optimizers, batch sizes and networks reach different minimizers?"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from whichmin.cli.asked import Asked
from whichmin.cli.comparison import comparison_json, print_comparison
from whichmin.cli.options import Level, Output, Question, Train
from whichmin.cli.record import Record
from whichmin.cli.tables import print_json, print_notes, written_to

if TYPE_CHECKING:
    from whichmin.studies.comparison import Comparison


def compare(
    *,
    question: Question = Question(),  # noqa: B008
    train: Train = None,
    level: Level = None,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Whether optimizers, batch sizes and networks reach different minimizers.

    Every network with every optimizer and batch size starts from the same seeds, and is predicted; with --train it is
    trained as well. Two questions are answered of each pair: do they reach different minimizers from the same
    initialization, and do they differ beyond the seed, in what all initializations share? Either counts where it is
    larger than the predictions may be off by. Without options: five optimizers in full batches on digits 0 against 1,
    100 training points, one hidden layer of 512, ten seeds.

    Finished runs are kept: the same command again goes on where it was interrupted.
    """
    asked = question.asked("compare", {"level": level}, train=train)
    with contextlib.redirect_stdout(sys.stderr):
        comparison = _compared(asked, output.out)
        from whichmin.report.pages.comparison import comparison_page

        record = Record.of_asked(asked, comparison.task)
        page = comparison_page(comparison, asked=record.page(output.out))
        written = written_to(output.out, "compare", page, comparison.to_frame()) | record.write(output.out)
    if output.json:
        said = comparison_json(comparison) | {"config": asked.to_dict(), "differences": list(record.differences)}
        print_json(said, written)
    else:
        print_comparison(comparison)
        print_notes(record.differences)
        print(f"\nreport: {written['report']}")
    return int(bool(comparison.failures))


def _compared(asked: Asked, out: Path) -> Comparison:
    from whichmin.recipe.recipe import Recipe
    from whichmin.studies.compare import compare
    from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
    from whichmin.studies.experiment.choices import choices_of

    experiment = asked.experiment
    choices = choices_of(experiment)
    networks = {choice.network: choice.experiment for choice in choices}
    recipes = {
        choice.recipe: Recipe(build_optimizer(choice.optimizer), choice.experiment.batch_size, experiment.seed)
        for choice in choices
    }
    task = build_task(experiment)
    factories = {name: lambda seed, of=of: build_network(of, task, seed) for name, of in networks.items()}
    try:
        return compare(
            factories if len(factories) > 1 else factories[""],
            task,
            recipes,
            experiment.seeds,
            train=experiment.train,
            until=experiment.until,
            steps=experiment.steps,
            tol=experiment.tol,
            level=asked.own["level"],
            progress=True,
            out=out,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"finished runs are kept in {out / 'runs'}; the same command again goes on from there."
        ) from None
