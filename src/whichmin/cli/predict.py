"""``whichmin predict``: where training goes, without training."""

from __future__ import annotations

from whichmin.cli.options import Output, Question


def predict(
    *,
    question: Question = Question(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
) -> int:
    """Say where training goes, without training.

    As ``whichmin explain --no-train``: one linearization and the path of linearizations, or training a copy where that
    is cheaper, for each of several initializations, with the estimated error of each, and the terms of the predicted
    test outputs. Without options: digits 0 against 1, 100 training points, one hidden layer of 2048, three seeds.
    Several optimizers, learning rates, batch sizes, scales or networks are predicted each, and compared as by whichmin
    compare.
    """
    asked = question.asked("predict", train=False)
    from whichmin.cli.work import answer

    return answer(asked, output)
