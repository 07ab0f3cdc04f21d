"""How J is made: which parameters by their layers, which by per-example gradients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """How J is made.

    Attributes:
        form: parameters whose per-example gradients are formed whatever layer uses them.
        one_by_one: whether these are formed by a backward pass for each, without ``vmap``.
        by_rows: signatures of uses whose rows are known to stand where the signature says.
        trusted: parameters whose gradients were seen to be right although some of their calls had no graph.
    """

    form: frozenset[str] = frozenset()
    one_by_one: bool = False
    by_rows: frozenset[tuple[object, ...]] = frozenset()
    trusted: frozenset[str] = frozenset()


#: Nothing is known of the uses, and whatever layer is recognized is used.
BY_LAYERS = Route()
