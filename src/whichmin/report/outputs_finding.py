"""What came out where outputs are looked at over initializations, in sentences."""

from __future__ import annotations

from statistics import fmean

from whichmin.decision import Decision
from whichmin.infinite.predict import InfinitePrediction
from whichmin.report.numbers import accuracy, mean_sd, number, percent
from whichmin.studies.seed_spread import SeedSpread

#: The least part of the targets' norm that is worth a sentence: the rest is rounding.
TOLD = 1e-3


def seeds_finding(spread: SeedSpread) -> list[str]:
    """How far the minimizers of many initializations scatter."""
    std = float(spread.seed_std.double().square().mean().sqrt())
    error = fmean(spread.error.tolist())
    flips, errors = spread.flip_probability.double(), spread.test_error
    finding = [
        f"Over {len(spread.test)} initializations the predicted outputs have a standard deviation of {number(std, 2)} "
        f"(root mean square on the test points); a prediction itself may be off by {number(error, 2)}"
        f"{', so that the deviation is not told' if error >= std else ''}."
    ]
    if Decision.of(spread.task).classes:
        finding.append(
            f"{int((flips > 0).sum())} of {len(flips)} test points are decided differently by different seeds; a seed "
            f"differs from the majority in {percent(float(flips.mean()))} of the cases."
        )
    if errors is not None:
        right = spread.accuracy
        rightly = "" if right is None else f", the accuracy {accuracy(float(right.mean()))}"
        finding.append(f"The test error ({spread.task.loss.label}) is {mean_sd(errors.tolist())}{rightly}.")
    return finding


def infinite_finding(prediction: InfinitePrediction) -> list[str]:
    """How far infinitely wide networks scatter, and what no training reaches."""
    std = float(prediction.std.square().mean().sqrt())
    finding = [
        f"Infinitely wide networks end with a standard deviation over initializations of {number(std, 2)} (root mean "
        "square on the test points)."
    ]
    if prediction.unreached >= TOLD:
        finding.append(f"No training reaches {percent(prediction.unreached)} of the targets’ norm.")
    return finding
