"""Numbers as a reader wants them: few digits, a true minus sign, powers of ten that can be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

MISSING = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def superscript(exponent: int) -> str:
    """An integer as superscript characters, for example ``⁻⁵``."""
    return str(exponent).translate(_SUPERSCRIPT)


def number(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits; whole numbers in full, tiny and huge ones as ``1.02×10⁻⁵``."""
    if value is None:
        return MISSING
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    mantissa, power = f"{value:.{digits - 1}e}".split("e")
    exponent = int(power)
    if -3 <= exponent < 5:
        text = f"{float(f'{mantissa}e{power}'):,.{max(0, digits - 1 - exponent)}f}"
    else:
        text = f"{mantissa}×10{superscript(exponent)}"
    return text.replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A change: :func:`number` with its sign always there."""
    return ("+" if value > 0 else "") + number(value, digits)


def percent(fraction: float) -> str:
    """A fraction as a percentage: whole above ten, one decimal below, ``< 0.1 %`` for less."""
    value = 100 * fraction
    if not math.isfinite(value):
        return number(value)
    if 0 < abs(value) < 0.05:
        return "<\u00a00.1\u00a0%" if value > 0 else ">\u00a0−0.1\u00a0%"
    text = f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}".removesuffix(".0")
    return text.replace("-", "−") + "\u00a0%"


def accuracy(fraction: float) -> str:
    """The part of points that is decided rightly, as a percentage to three digits: 99.6 % is not all of them."""
    return f"{number(100.0 * fraction)}\u00a0%"


def duration(seconds: float) -> str:
    """Seconds as milliseconds, seconds, minutes or hours, to two figures."""
    if not math.isfinite(seconds):
        return number(seconds)
    if seconds < 0.0995:
        return f"{max(1, round(1000 * seconds))}\u00a0ms"
    if seconds < 99.5:
        return f"{seconds:.1f}\u00a0s" if seconds < 9.95 else f"{seconds:.0f}\u00a0s"
    if seconds < 5970:
        return f"{seconds / 60:.0f}\u00a0min"
    return f"{seconds / 3600:.1f}\u00a0h"


def mean_sd(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation on one scale, ``(1.02 ± 0.03)×10⁻⁵``; of equal values just the number."""
    if len(values) < 2 or not all(math.isfinite(v) for v in values):
        finite = [v for v in values if math.isfinite(v)]
        return number(values[0]) if len(values) == 1 else (number(fmean(finite)) if finite else MISSING)
    if min(values) == max(values):
        return number(values[0])
    mean, sd = fmean(values), stdev(values)
    size = max(abs(mean), sd)
    exponent = int(f"{size:.2e}".split("e")[1])
    if -3 <= exponent < 5:
        decimals = max(0, (1 if all(isinstance(v, int) for v in values) else 2) - exponent)
        text = f"{mean:,.{decimals}f}\u00a0±\u00a0{sd:,.{decimals}f}"
    else:
        text = f"({mean / 10.0**exponent:.2f}\u00a0±\u00a0{sd / 10.0**exponent:.2f})×10{superscript(exponent)}"
    return text.replace("-", "−")
