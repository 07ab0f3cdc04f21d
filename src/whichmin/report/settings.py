"""What was asked, as names and texts: of a configuration, and of what the entries tell themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from whichmin.report.entry_view import EntryView, last_steps

#: Names under which a configuration may already say what the entries tell.
_ALIASES = {
    "training points": {"n", "n_train"},
    "test points": {"n_test"},
    "optimizer": {"optim"},
    "learning rate": {"lr", "learning_rate"},
    "train until": {"until"},
    "trained": {"train"},
    "points": {"n_train"},
    "widths": {"hidden"},
    "width": {"hidden"},
}


def asked_of(entries: Sequence[EntryView], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The configuration, and after it what the entries tell and the configuration does not."""
    return asked_beside(config, dict(_facts(entries)))


def asked_beside(config: Mapping[str, Any], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The configuration, and after it what is known beside it, where the configuration does not say the same."""
    asked = dict(flattened(config))
    given = {word for name in asked for word in name.lower().split(".")}
    known = [(k, v) for k, v in facts.items() if not given & ({k} | _ALIASES.get(k, set()))]
    return list(asked.items()) + [(name, text_of(value)) for name, value in known]


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and texts of settings; those of nested ones are dotted."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", text_of(value)


def text_of(value: object) -> str:
    """A setting as a reader wants it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+0", "e+")
    if isinstance(value, (list, tuple)):
        return ", ".join(text_of(v) for v in value) or "none"
    return "none" if value is None else str(value)


def _facts(entries: Sequence[EntryView]) -> Iterator[tuple[str, str]]:
    tasks = [v.task for v in entries if v.task is not None]
    runs = [v.run for v in entries if v.run is not None]
    predictions = [p for v in entries if (p := v.prediction) is not None]
    if tasks:
        yield "training points", _range(t.n for t in tasks)
        yield "test points", _range(t.n_test for t in tasks)
        yield "outputs", _range(t.outputs for t in tasks)
        yield "loss", ", ".join(dict.fromkeys(repr(t.loss) for t in tasks))
    if runs:
        yield "optimizer", ", ".join(dict.fromkeys(r.optimizer for r in runs))
    rates = [x.learning_rate for x in runs or predictions]
    if rates:
        yield "learning rate", _range(rates)
    aims = [r.until for r in runs if r.until is not None]
    if aims:
        yield "train until", _range(aims)
    origins = [v.explanation.from_step for v in entries if v.explanation is not None]
    if any(origins):
        yield "linearized at step", _range(origins)
    if predictions:
        yield "steps predicted", _range(last_steps(p) for p in predictions)
        if any(p.flow for p in predictions):
            yield "dynamics", "gradient flow"


def _range(values: Iterable[float]) -> str:
    """One text for values that are mostly alike: ``3``, or ``3 to 5``."""
    kept = list(values)
    low, high = (
        f"{v:,.0f}" if float(v).is_integer() else text_of(float(v)).replace("inf", "∞") for v in (min(kept), max(kept))
    )
    return low if low == high else f"{low} to {high}"
