"""``whichmin explain``: predict, train for real, take the test outputs apart."""

from __future__ import annotations

from whichmin.cli.options import Output, Question, Train


def explain(
    *,
    question: Question = Question(),  # noqa: B008
    train: Train = None,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Train for real, and take the test outputs apart into named terms.

    For each of several initializations: where gradient descent goes as one linearization predicts it and as the
    cheapest way that is right predicts it, a path of linearizations or training a copy, where it really goes, and which
    part of the network's test outputs is the data's, the initialization's, the unfinished training's and the network's
    own nonlinearity. Without options: digits 0 against 1,
    100 training points, one hidden layer of 2048, three seeds. Several optimizers, learning rates, batch sizes, scales
    or networks are explained each, and compared as by whichmin compare.

    Finished seeds are kept: the same command again goes on where it was interrupted.
    """
    asked = question.asked("explain", train=train)
    from whichmin.cli.work import answer

    return answer(asked, output)
