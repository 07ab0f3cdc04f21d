"""``whichmin explain``: predict, train for real, take the test outputs apart."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from whichmin.cli.options import Output, Question


def explain(
    *,
    question: Question = Question(),  # noqa: B008
    no_train: Annotated[
        bool, Parameter(help="Leave out training: the followed path takes its place.", negative="", show_default=False)
    ] = False,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Train for real, and take the test outputs apart into named terms.

    For each of several initializations: where gradient descent goes as one linearization predicts it and as the path
    of linearizations predicts it, where it really goes, and which part of the network's test outputs is the data's, the
    initialization's, the unfinished training's and the network's own nonlinearity. Without options: digits 0 against 1,
    100 training points, one hidden layer of 2048, three seeds.

    Finished seeds are kept: the same command again goes on where it was interrupted.
    """
    experiment = question.experiment(**({"train": False} if no_train else {}))
    from whichmin.cli.work import answer

    return answer(experiment, output)
