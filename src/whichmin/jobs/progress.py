"""How far work is, on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from whichmin.jobs.perform import Attempt, Job, Terms, perform

if TYPE_CHECKING:
    from whichmin._bars import tqdm

T = TypeVar("T")

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
    from whichmin._bars import tqdm

    # All runs count alike for the estimate: the last few tell little where widths differ.
    return tqdm(
        total=total, unit=unit, delay=DELAY, leave=False, disable=not shown, desc=description, smoothing=0.0,
    )  # fmt: skip


def performed(jobs: Iterable[Job[T]], terms: Terms, bar: tqdm) -> Iterator[tuple[int, Attempt[T]]]:
    """What :func:`whichmin.jobs.perform.perform` yields, each shown by a bar, with how many failed."""
    failed = 0
    for number, attempt in perform(jobs, terms):
        failed += attempt.failure is not None
        if failed:
            bar.set_postfix_str(f"{failed} failed", refresh=False)
        if attempt.is_old and not bar.disable:  # what took no time tells nothing of what is left
            bar.initial += 1
        bar.update()
        yield number, attempt
