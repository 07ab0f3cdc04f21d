"""How far work is, on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

#: Seconds that work may take before a bar is shown.
DELAY = 2.0


def progress_bar(total: int | None, unit: str, shown: bool, description: str | None = None) -> tqdm:
    """A bar with the time that passed and an estimate of what is left, shown if it takes longer than two seconds.

    Args:
        total: how many there are; None where that is not known yet.
        unit: what they are.
        shown: whether there is a bar at all.
        description: what is being done.
    """
    from tqdm import tqdm

    # All runs count alike for the estimate: the last few tell little where widths differ.
    return tqdm(
        total=total, unit=unit, delay=DELAY, leave=False, disable=not shown, desc=description, smoothing=0.0,
    )  # fmt: skip


def advance(bar: tqdm, *, took_time: bool = True) -> None:
    """One more is done; what took no time, such as what was read from a store, tells nothing of what is left."""
    if not (took_time or bar.disable):
        bar.initial += 1
    bar.update()
