"""``whichmin linear``: the theory of linear networks beside what happens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from whichmin.cli.tables import aligned, print_json, written_to
from whichmin.errors import ConfigError


def linear(
    *,
    data: Annotated[str | None, Parameter(help="digits, mnist or a path; random data without.")] = None,
    target: Annotated[str | None, Parameter(help="Of a table, .csv or .parquet: the column of targets.")] = None,
    test: Annotated[float, Parameter(help="Of a table: the share of its rows that are left out.")] = 0.3,
    standardize: Annotated[bool, Parameter(help="Of a table: numbers get mean 0 and standard deviation 1.")] = True,
    n_train: Annotated[int, Parameter(help="Training points.")] = 10,
    data_seed: Annotated[int, Parameter(help="Seed of the draw of them.")] = 0,
    inputs: Annotated[int, Parameter(help="Input dimension of random data.")] = 25,
    outputs: Annotated[int, Parameter(help="Outputs of random data.")] = 3,
    width: Annotated[int, Parameter(help="Hidden units of the network looked at in detail.")] = 200,
    exponent: Annotated[float, Parameter(help="a of its initialization N(0, h^-2a).")] = 0.5,
    network_seed: Annotated[int, Parameter(help="Seed of that network.")] = 0,
    widths: Annotated[str, Parameter(help="Widths of the sweep, or none.")] = "100,200,400,800,1600,3200,6400",
    exponents: Annotated[str, Parameter(help="Exponents a of the sweep.")] = "0.3,0.35,0.4,0.5",
    seeds: Annotated[int, Parameter(help="Networks per width and exponent.")] = 20,
    out: Annotated[Path, Parameter(help="Folder of report.html and results.csv.")] = Path("whichmin-out"),
    json: Annotated[bool, Parameter(help="One JSON object instead of the table.", negative="")] = False,
) -> int:
    """Where a linear network with one hidden layer ends, guaranteed and measured.

    Gradient flow on f(x) = V Uᵀ x: the guaranteed rate of convergence beside the measured one, the bound on the
    distance to the minimum-norm solution beside the distance, trajectories on and off the invariant set, and a sweep
    over widths with fitted powers. Without options: random data, 10 points of 25 inputs and 3 outputs.
    """
    heights, powers = _numbers(widths, int, "--widths"), _numbers(exponents, float, "--exponents")
    from whichmin.linear.study import study

    table = {"target": target, "test": test, "standardize": standardize}
    X, Y = _problem(data, n_train, inputs, outputs, data_seed, table)
    answer = study(
        X,
        Y,
        width=width,
        exponent=exponent,
        network_seed=network_seed,
        widths=heights,
        exponents=powers,
        seeds=seeds,
        progress=True,
    )
    written = written_to(out, answer.report, answer.to_frame())
    if json:
        print_json(_as_json(answer), written)
        return 0
    _print(answer)
    print(f"\nreport: {written['report']}")
    return 0


def _problem(
    data: str | None, n_train: int, inputs: int, outputs: int, seed: int, table: dict[str, Any]
) -> tuple[Any, Any]:
    import torch

    if data is None:
        from whichmin.linear.sweep import example

        if min(n_train, inputs, outputs) < 1:
            raise ConfigError(
                f"got {n_train} points, {inputs} inputs, {outputs} outputs; expected one of each at least."
            )
        return example(n_train, inputs, outputs, seed=seed)
    from whichmin.data.load import load

    task = load(data, n_train=n_train, n_test=0, seed=seed, flat=True, dtype=torch.float64, **table)
    return task.X, task.y


def _numbers(text: str, kind: type, name: str) -> list[Any]:
    if text.strip().lower() in ("", "none"):
        return []
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; expected numbers separated by commas, such as 100,400,1600.") from None


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
    print("\n" + " ".join(finding(answer)))
    for note in answer.analysis.notes:
        print(f"note: {note}")


def _as_json(answer: Any) -> dict[str, Any]:
    table = [
        {"quantity": name} | dict(zip(("guaranteed", "tight", "measured"), values, strict=True))
        for name, *values in answer.to_frame().itertuples(index=False, name=None)
    ]
    quantities = ("solution_distances", "invariant_distances", "levels")
    fits = {} if answer.sweep is None else {q: answer.sweep.fits(q) for q in quantities}
    return {
        "config": dict(answer.settings),
        "table": table,
        "fits": {q: [dict(vars(fit)) for fit in fitted] for q, fitted in fits.items()},
        "notes": list(answer.analysis.notes),
    }
