"""The figures that the Markdown pages quote, each a function of a stored result or of a constant of the code.

A page writes ``<!-- =NAME -->…<!-- / -->``; what stands between the two comments is what the function NAME of this
file returns. ``python docs/check_numbers.py --write`` puts it there, and without ``--write`` it fails where it differs.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def stored(name: str) -> dict[str, Any]:
    """What ``benchmarks/results/NAME.json`` holds: environment, options, results."""
    from whichmin.storage import from_json

    return from_json((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def span(values: list[float]) -> str:
    """The least and the largest of some numbers, rounded to whole ones."""
    least, largest = round(min(values)), round(max(values))
    return f"{least:,}" if least == largest else f"{least:,} to {largest:,}"


def default_seeds() -> str:
    """How many initializations ``whichmin explain`` trains."""
    from whichmin.studies.experiment.config import Experiment

    return WORDS[inspect.signature(Experiment).parameters["seeds"].default]


def ensemble_members() -> str:
    """How many networks the remedy ``ensemble`` averages."""
    from whichmin.mitigation.ensemble import Ensemble

    return WORDS[Ensemble.members]


def batch_step() -> str:
    """Microseconds of a mini-batch step in function space."""
    return f"{span([row['µs a step'] for row in stored('optimizers-steps')['results']])} µs"


def adaptive_path() -> str:
    """What a path of an adaptive rule costs, in training steps."""
    rows = [r for r in stored("optimizers-time")["results"] if r["optimizer"] in ("AdaGrad", "RMSprop", "Adam")]
    return span([row["predict s"] * row["steps"] / row["train s"] for row in rows])


def adaptive_steps() -> str:
    """The training steps that those paths stand for."""
    rows = [r for r in stored("optimizers-time")["results"] if r["optimizer"] in ("AdaGrad", "RMSprop", "Adam")]
    return span([row["steps"] for row in rows])


def halt_steps() -> str:
    """Steps without a new lowest loss after which training stops, at least."""
    from whichmin.loop.stopping import STEPS

    return f"{STEPS:,}"


def least_fall() -> str:
    """By how much a loss has to fall to be a new lowest one."""
    from whichmin.loop.stopping import LEAST_FALL

    return f"{100 * LEAST_FALL:g} %"


def dense_limit() -> str:
    """Training outputs up to which the kernel is decomposed."""
    from whichmin.kernels.spectrum import DENSE

    return f"{DENSE:,}"
