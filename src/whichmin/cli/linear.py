"""``whichmin linear``: the theory of linear networks beside what happens."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from pathlib import Path
from typing import Annotated, Any

from whichmin.cli.asked import DEFAULTS, OWN, said_values
from whichmin.cli.options import Config, Networks, Output, listed, option_of, parsed
from whichmin.cli.record import Record
from whichmin.cli.tables import aligned, print_json, print_notes, written_to
from whichmin.errors import ConfigError
from whichmin.studies.experiment.config import Experiment

_NUMBERS = "numbers separated by commas, such as 0.3,0.5"
_EXPERIMENT = {field.name: field.default for field in dataclasses.fields(Experiment)}


def linear(
    *,
    networks: Networks = Networks(),  # noqa: B008
    config: Config = None,
    inputs: Annotated[int | None, option_of("inputs", "Input dimension of random data.")] = None,
    outputs: Annotated[int | None, option_of("outputs", "Outputs of random data.")] = None,
    exponent: Annotated[
        float | None, option_of("exponent", "a of the initialization N(0, h^-2a) of the network looked at in detail.")
    ] = None,
    exponents: Annotated[
        str | None, option_of("exponents", "Exponents a of the sweep over widths, separated by commas.")
    ] = None,
    network_seed: Annotated[int | None, option_of("network_seed", "Seed of the network looked at in detail.")] = None,
    output: Output = Output(),  # noqa: B008
) -> int:
    """Where a linear network with one hidden layer ends, guaranteed and measured.

    Gradient flow on f(x) = V Uᵀ x: the guaranteed rate of convergence beside the measured one, the bound on the
    distance to the minimum-norm solution beside the distance, trajectories on and off the invariant set, and a sweep
    over widths with fitted powers. The first width of --hidden is looked at in detail; where there are several, they
    are swept. Without options: random data, 10 points of 25 inputs and 3 outputs, width 200, and a sweep from 100 to
    6400.
    """
    own = {"inputs": inputs, "outputs": outputs, "exponent": exponent, "network_seed": network_seed}
    own |= {"exponents": None if exponents is None else listed("exponents", exponents, float, _NUMBERS)}
    values = _values(parsed(networks) | own, config)
    widths = _widths(values["hidden"])
    from whichmin.linear.study import study

    X, Y = _problem(values)
    answer = study(
        X,
        Y,
        width=widths[0],
        exponent=values["exponent"],
        network_seed=values["network_seed"],
        widths=widths if len(widths) > 1 else (),
        exponents=values["exponents"],
        seeds=values["seeds"],
        progress=True,
    )
    from whichmin.report.pages.linear import linear_page
    from whichmin.task import Task

    record = Record.of("linear", values, Task(X, Y), config)
    page = linear_page(answer, asked=record.page(output.out))
    written = written_to(output.out, "linear", page, answer.to_frame()) | record.write(output.out)
    if output.json:
        print_json(_as_json(answer) | {"config": values, "differences": list(record.differences)}, written)
        return 0
    _print(answer)
    print_notes(record.differences)
    print(f"\nreport: {written['report']}")
    return 0


def _values(line: dict[str, Any], config: Path | None) -> dict[str, Any]:
    """The command line over the file over the defaults."""
    known = {field.name: _EXPERIMENT[field.name] for field in dataclasses.fields(Networks)}
    said = said_values("linear", line, config, tuple(known))
    return known | OWN["linear"] | DEFAULTS["linear"] | said


def _widths(hidden: Any) -> list[int]:
    """The width of each network.

    Raises:
        ConfigError: a network of several hidden layers, or what is no width.
    """
    networks = hidden if all(isinstance(layers, list | tuple) for layers in hidden) else [hidden]
    widths = [width for layers in networks for width in layers]
    if any(len(layers) != 1 for layers in networks) or any(type(w) is not int or w < 1 for w in widths):
        raise ConfigError(
            f"hidden is {hidden!r}; expected widths of one hidden layer each, such as --hidden 100,400,1600, in a file "
            "hidden = [[100], [400], [1600]]."
        )
    return widths


def _problem(values: dict[str, Any]) -> tuple[Any, Any]:
    """Inputs and targets."""
    import torch

    counts = values["n_train"], values["inputs"], values["outputs"]
    if values["data"] == "random":
        from whichmin.linear.sweep import example

        if min(counts) < 1:
            raise ConfigError("got {} points, {} inputs, {} outputs; expected one of each at least.".format(*counts))
        return example(*counts, seed=values["data_seed"])
    from whichmin.data.load import load

    classes = None if values["classes"] in (None, "all") else values["classes"]
    table = {name: values[name] for name in ("target", "test", "standardize")}
    task = load(
        values["data"],
        classes=classes,
        n_train=values["n_train"],
        n_test=0,
        seed=values["data_seed"],
        flat=True,
        dtype=torch.float64,
        **table,
    )
    return task.X, task.y


def _print(answer: Any) -> None:
    from whichmin.report.linear import finding
    from whichmin.report.numbers import number

    rows = [["", "guaranteed", "tight", "measured"]]
    for name, *values in answer.to_frame().itertuples(index=False, name=None):
        rows.append([name, *(number(float(v)) for v in values)])
    print(*aligned(rows), sep="\n")
    if answer.sweep is not None:
        rows = [["distance at the end ~ width to the power", "expected", "fitted", "standard error"]]
        for fit in answer.sweep.fits():
            cells = (
                number(v, 2) if math.isfinite(v) else "–"
                for v in (round(fit.expected, 6), fit.slope, fit.standard_error)
            )
            rows.append([f"a = {fit.exponent:g}", *cells])
        print()
        print(*aligned(rows), sep="\n")
    print("\n" + textwrap.fill(" ".join(finding(answer)), 100))
    print_notes(answer.analysis.notes)


def _as_json(answer: Any) -> dict[str, Any]:
    table = [
        {"quantity": name} | dict(zip(("guaranteed", "tight", "measured"), values, strict=True))
        for name, *values in answer.to_frame().itertuples(index=False, name=None)
    ]
    quantities = ("solution_distances", "invariant_distances", "levels")
    fits = {} if answer.sweep is None else {q: answer.sweep.fits(q) for q in quantities}
    return {
        "table": table,
        "fits": {q: [dict(vars(fit)) for fit in fitted] for q, fitted in fits.items()},
        "notes": list(answer.analysis.notes),
    }
