"""The variances that parameters were drawn with, told from their values: a module does not keep its law."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import chdtr, chdtrc
from torch import Tensor

from whichmin.errors import ModelError

#: Standard errors by which a measured mean square may differ from a law's variance and still be taken for that law.
_AGREES = 4.0
#: The probability of a larger difference, on one side, for normal numbers.
_UNLIKELY = 0.5 * math.erfc(_AGREES / math.sqrt(2.0))
#: Fewer numbers than this do not give a variance: it would be off by a fifth or more, √(2/number).
_ENOUGH = 50
#: The mean of weights moves what a layer of n inputs adds up to by √n·|mean|/std of its spread; less than this is let
#: pass, as in a network that was trained a little.
_MOVED = 0.3

#: What to do where weights cannot be read.
_SAY = "pass weight_std=, √fan_in times the standard deviation that each layer's weights were drawn with."


def weight_variances(
    weights: Sequence[Tensor | None], own: Sequence[float], others: Sequence[Sequence[float]], names: Sequence[str]
) -> list[float]:
    """The variance of the weights of each layer.

    That of the layer's own law where the entries agree with it. The other layers have the likeliest other law that all
    of them agree with; where there is none, each has the likeliest that it agrees with itself, or its mean square.

    Args:
        weights: (out, in) of each layer; None where the law is given.
        own: the variance of the law that each layer draws from.
        others: for each other law, the variance that it has in each layer.
        names: the layers in messages.

    Raises:
        ModelError: entries that are no independent draw of mean zero, or too few to tell.
    """
    variances = [0.0 if weight is None else own[i] for i, weight in enumerate(weights)]
    off = {i: weight for i, weight in enumerate(weights) if weight is not None and not agrees(weight, own[i])}
    for i in [i for i, weight in off.items() if not bool(weight.detach().any())]:
        if i + 1 < len(weights):
            raise ModelError(
                f"the weights of {names[i]} are all zero, so that nothing behind it depends on the inputs."
            )
        variances[i] = 0.0
        del off[i]
    for i, weight in off.items():
        _check_draw(weight, names[i])
    common = [law for law in others if all(agrees(weight, law[i]) for i, weight in off.items())]
    for i, weight in off.items():
        known = [law[i] for law in others if agrees(weight, law[i])]
        if common:
            variances[i] = min(common, key=lambda law: sum(surprise(w, law[j]) for j, w in off.items()))[i]
        elif known:
            variances[i] = min(known, key=lambda variance, w=weight: surprise(w, variance))
        elif weight.numel() >= _ENOUGH:
            variances[i] = mean_square(weight)
        else:
            count = f"the {weight.numel()} weights" if weight.numel() > 1 else "the one weight"
            raise ModelError(f"{count} of {names[i]} agree with no usual law and are too few to measure one: {_SAY}")
    return variances


def bias_variances(biases: Sequence[Tensor | None], own: Sequence[float], names: Sequence[str]) -> list[float]:
    """The variance of the biases of each layer.

    Zero where they are all zero or absent; that of the layer's own law where they agree with it; else their mean
    square, over all layers where these agree with a common one. Biases too few to measure follow the others: the
    layers' own laws, unless there are others that are off theirs.

    Args:
        biases: of each layer; None for those that have none or whose law is given.
        own: the variance of the law that each layer draws from.
        names: the layers in messages.

    Raises:
        ModelError: biases that are no independent draw of mean zero, or too few to tell.
    """
    variances = [0.0] * len(biases)
    present = [(i, bias) for i, bias in enumerate(biases) if bias is not None and bool(bias.detach().any())]
    for i, bias in present:
        if bias.numel() > 1 and bool((bias == bias[0]).all()):
            raise ModelError(_refusal(f"the biases of {names[i]} are all {bias[0].item():.3g}"))
    off = {i for i, bias in present if not agrees(bias, own[i])}
    few = {i for i, bias in present if bias.numel() < _ENOUGH}
    if off - few:
        off |= few
    measured = {i: bias for i, bias in present if i in off - few}
    for i, bias in measured.items():
        if _mean(bias) ** 2 > _AGREES**2 / bias.numel() * mean_square(bias):
            moments = f"the mean {_mean(bias):.3g} and the root mean square {math.sqrt(mean_square(bias)):.3g}"
            raise ModelError(_refusal(f"the biases of {names[i]} have {moments}, which is no draw of mean zero"))
    count = sum(bias.numel() for bias in measured.values())
    common = sum(bias.numel() * mean_square(bias) for bias in measured.values()) / max(count, 1)
    is_common = bool(measured) and all(agrees(bias, common) for bias in measured.values())
    for i, bias in present:
        if i not in off:
            variances[i] = own[i]
        elif i in measured:
            variances[i] = common if is_common else mean_square(bias)
        elif is_common and agrees(bias, common):
            variances[i] = common
        else:
            count = f"the {bias.numel()} biases" if bias.numel() > 1 else "the one bias"
            are = "are too few" if bias.numel() > 1 else "is not enough"
            raise ModelError(_refusal(f"{count} of {names[i]} {are} to measure a law, and the other layers give none"))
    return variances


def _check_draw(weight: Tensor, name: str) -> None:
    mean, square = _mean(weight), mean_square(weight)
    allowed = max(_AGREES / math.sqrt(weight.numel()), _MOVED / math.sqrt(weight.shape[1]))
    if mean**2 > allowed**2 * square:
        moments = f"the mean {mean:.3g} and the root mean square {math.sqrt(square):.3g}"
        raise ModelError(f"the weights of {name} have {moments}, which is no draw of mean zero: {_SAY}")


def agrees(values: Tensor, variance: float) -> bool:
    """Whether normal numbers of this variance and mean zero have such a mean square, to four standard errors."""
    count = values.numel()
    total = count * mean_square(values) / variance
    return bool(chdtr(count, total) > _UNLIKELY and chdtrc(count, total) > _UNLIKELY)


def surprise(values: Tensor, variance: float) -> float:
    """Minus twice the log likelihood of normal numbers with this variance, up to a constant."""
    return values.numel() * (math.log(variance) + mean_square(values) / variance)


def mean_square(values: Tensor) -> float:
    """The mean of the squares, in float64."""
    return float(values.detach().double().square().mean())


def _mean(values: Tensor) -> float:
    return float(values.detach().double().mean())


def _refusal(what: str) -> str:
    return (
        f"{what}: the limit needs the law that they were drawn from. Pass bias_std=, the standard deviation of each "
        "layer's biases, 0 for those that started at zero."
    )
