"""Remarks of many runs, told once where they are alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def told_once(remarks: Mapping[str, Iterable[tuple[str, str]]], kind: str) -> list[str]:
    """Notes: of remarks that differ by their numbers alone the first, and of how many more the like is known.

    What is known of several recipes is told once where the first remark of each is the same to the letter.

    Args:
        remarks: of each recipe by name, one or several: whose each is, such as "seed 3", and what it says; the same one
            twice counts once.
        kind: what the others are, such as "seed".
    """
    notes: dict[str, dict[str, list[str]]] = {}
    for recipe, of_recipe in remarks.items():
        alike: dict[str, list[tuple[str, str]]] = {}
        for whose, remark in dict.fromkeys(of_recipe):
            alike.setdefault(without_numbers(remark), []).append((whose, remark))
        for told in alike.values():
            notes.setdefault(told[0][1], {})[recipe] = [whose for whose, _ in told]
    return [_note(remark, by_recipe, kind) for remark, by_recipe in notes.items()]


def _note(remark: str, by_recipe: Mapping[str, list[str]], kind: str) -> str:
    """A remark with whose it is, by recipe."""
    (_, (first, *more)), *others = by_recipe.items()
    likewise = [_counted(len(more), f"more {kind}")] if more else []
    likewise += [f"{_counted(len(whose), kind)} of {recipe}" for recipe, whose in others]
    return f"{first}: {remark}" + (f" Likewise {'; '.join(likewise)}." if likewise else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def without_numbers(remark: str) -> str:
    """A remark with ``#`` for each of its numbers: equal for remarks that differ by these alone."""
    return re.sub(r"[-+]?\d[\d.,e+-]*", "#", remark)
