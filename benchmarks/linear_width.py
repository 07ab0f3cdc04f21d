"""Linear networks: the guarantees on a thousand random problems, and the powers of the width.

python benchmarks/linear_width.py --problems 1000 --out linear_width.json

First, random problems (sizes 2 to 40, half of the data rank-deficient, one in seven balanced) are integrated and every
guarantee is compared with the flow at 41 times; a violation is what exceeds the bound by more than the integrator's own
error. Then the default width sweep (widths 100 to 6400, four exponents, 20 seeds) is timed and fitted, on its default
data and on harder ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whichmin import linear


def random_problem(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(U, V, X, Y) of random sizes, rank, condition number (at most 5), scale and initialization."""
    generator = np.random.default_rng(seed)
    d, m, points = (int(s) for s in np.exp(generator.uniform(np.log(2), np.log(41), 3)))
    h = int(generator.integers(2, 41))
    rank = min(d, points)
    if generator.random() < 0.5:
        rank = int(generator.integers(1, rank + 1))
    left, _ = np.linalg.qr(generator.standard_normal((points, rank)))
    right, _ = np.linalg.qr(generator.standard_normal((d, rank)))
    X = torch.as_tensor((left * np.exp(generator.uniform(0, np.log(5), rank))) @ right.T)
    Y = torch.as_tensor(generator.choice([0.1, 1.0, 3.0]) * generator.standard_normal((points, m)))
    exponent, balanced = float(generator.uniform(0.25, 0.6)), bool(generator.random() < 1 / 7)
    U, V = linear.initialize(d, h, m, X=X, exponent=exponent, balanced=balanced, seed=seed)
    return U, V, X, Y


def guarantees(seed: int) -> dict[str, float]:
    """By how much each bound is exceeded (negative: not at all), relative to the start, and how sharp it was."""
    case = random_problem(seed)
    known = linear.analyze_weights(*case)
    end = min(10.0, 25 / known.rate if known.rate > 0 else 10.0)
    run = linear.flow(*case, torch.linspace(0, end, 41))
    start = float(run.gaps[0])
    inside = 2 * run.gaps / known.singular_values[-1] ** 2
    outside = (run.solution_distances**2 - inside).clamp(min=0).sqrt() / run.solution_distances[0]
    size, last = float(run.solution_distances[0]), float(run.solution_distances[-1])
    later = slice(1, None)
    measured = -torch.log(run.gaps[later] / start) / run.times[later]
    return {
        "loss over bound": float(((run.losses - known.loss_bound(run.times)) / start)[later].max()),
        "loss over tight bound": float(((run.losses - known.tight_loss_bound(run.times)) / start)[later].max()),
        "distance over bound": float(outside.max()) - known.bound / size,
        "distance over tight bound": float(outside.max()) - known.tight_bound / size,
        "imbalance drift": float(run.imbalance_drift.max()),
        "rate over guaranteed": float(measured.min()) / known.rate if known.rate > 0 else np.inf,
        "rate over tight": float(measured.min()) / known.tight_rate if known.tight_rate > 0 else np.inf,
        "tight bound over distance": known.tight_bound / last if run.gaps[-1] < 1e-8 else np.inf,
        "finite bound": float(np.isfinite(known.bound)),
        "finite tight bound": float(np.isfinite(known.tight_bound)),
        "rank deficient": float(known.rank < min(case[2].shape)),
    }


def summarize(rows: list[dict[str, float]]) -> dict[str, float]:
    """The worst of each, and shares."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    result = {}
    for name, values in columns.items():
        if "finite" in name or name == "rank deficient":
            result[f"share: {name}"] = float(values.mean())
        elif name == "tight bound over distance":
            finite = values[np.isfinite(values) & (values > 0)]
            result[f"least {name}"], result[f"median {name}"] = float(finite.min()), float(np.median(finite))
        elif name.startswith("rate"):
            result[f"least {name}"] = float(values.min())
        else:
            result[f"largest {name}"] = float(values.max())
    return result


def sweeps(seeds: int) -> dict[str, Any]:
    """The default sweep, timed, and the same with larger targets and on larger data."""
    result: dict[str, Any] = {}
    X, Y = linear.example()
    wide = linear.example(20, 40, 5)
    for name, data in {"default": (X, Y), "targets × 5": (X, 5 * Y), "n = 20, d = 40, m = 5": wide}.items():
        started = time.perf_counter()
        sweep = linear.width_sweep(seeds=seeds, X=data[0], Y=data[1])
        fits = [vars(fit) for fit in sweep.fits()]
        result[name] = {
            "seconds": time.perf_counter() - started,
            "fits": fits,
            "largest deviation": max(abs(fit["slope"] - fit["expected"]) for fit in fits),
            "bounds hold": bool((sweep.solution_distances <= sweep.tight_bounds).all()),
            "largest remaining loss": float(sweep.remaining.max()),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first problem")
    parser.add_argument("--seeds", type=int, default=20, help="of the sweeps")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    rows = [guarantees(seed) for seed in range(options.first, options.first + options.problems)]
    answer = {
        "environment": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "machine": platform.machine(),
            "cores": os.cpu_count(),
        },
        "guarantees": {"problems": len(rows), "seconds": time.perf_counter() - started, **summarize(rows)},
        "sweeps": sweeps(options.seeds),
    }
    text = json.dumps(answer, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
