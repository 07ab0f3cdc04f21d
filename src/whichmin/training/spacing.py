"""At which steps something is kept of a training whose length is not known: closely at first, then ever more rarely."""

from __future__ import annotations

from typing import Any

#: From which index on there are two per doubling of the steps in place of one.
DENSER = 8


class Spacing:
    """Steps 0, 1, 2, 4, 8, …, 128, 192, 256, 384, …; every other one where there would be too many.

    Attributes:
        due: the next step at which something is kept.

    Args:
        most: how many are kept at most, with that of step 0 and one at the end.
    """

    def __init__(self, most: int) -> None:
        self.due = 1
        self._most, self._stride, self._index = most, 1, 1

    def admits(self, kept: list[Any]) -> bool:
        """Whether what is due now is to be kept; drops every other one of what was kept where that would be too many.

        Args:
            kept: what was kept so far, that of step 0 first.
        """
        if len(kept) >= self._most - 1:  # one place is kept for the end
            del kept[1::2]
            self._stride *= 2
        is_kept = self._index % self._stride == 0
        self._index = (self._index // self._stride + 1) * self._stride
        self.due = _spaced(self._index)
        return is_kept


def _spaced(index: int) -> int:
    """One step per doubling up to 128, where each still counts in the time, then two."""
    if index <= DENSER:
        return 2 ** (index - 1) if index else 0
    later = index - DENSER
    return (2 + later % 2) * 2 ** (DENSER - 2 + later // 2)
