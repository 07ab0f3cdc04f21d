"""Tangent kernels of finite networks, side by side: whichmin, neural-tangents, nngeometry and torch.func.

    python benchmarks/kernels.py --peer-jax PYTHON --peer-torch PYTHON

The peers' Pythons (benchmarks/README.md says how to make them) may also be given as WHICHMIN_PEER_JAX and
WHICHMIN_PEER_TORCH; without them those rows are left out. Every row is a process of its own that computes the kernel of
the same inputs with the same weights in float32. All processes of a problem are alive at once, held to the same cores,
and take turns, one computation each a round; two first computations (compilation, warm-up) are not counted. Reported
are the least and the median time, the process's peak memory, the ratio of the least times to that of whichmin's default
method, and the largest difference to its kernel over the kernel's largest entry.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent

OURS = ("whichmin auto", "whichmin layerwise")
TORCH = ("torch.func", "nngeometry")
NT = tuple(f"neural-tangents {m}" for m in ("structured-derivatives", "jacobian-contraction", "ntk-vector-products"))


@dataclass(frozen=True)
class Problem:
    """A network, its number of inputs, and what computes its kernel.

    Attributes:
        n: the number of inputs N.
        widths: (in, hidden, …, out) of a fully connected network; for a convolutional one the channels, then the
            output.
        image: height and width of the inputs, or None for a fully connected network.
        rows: the methods compared.
    """

    n: int
    widths: tuple[int, ...]
    image: tuple[int, int] | None
    rows: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Inputs and weights: He initialization, small biases, drawn with seed 0."""
        rng = np.random.default_rng(0)

        def normal(*shape: int) -> Any:
            return rng.standard_normal(shape).astype(np.float32)

        arrays = {"x": normal(self.n, self.widths[0], *(self.image or ()))}
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        for i, (n_in, n_out) in enumerate(pairs):
            window = (3, 3) if self.image and i < len(pairs) - 1 else ()
            gain = 1.0 if i == len(pairs) - 1 else 2.0
            arrays[f"w{i}"] = normal(n_out, n_in, *window) * np.float32((gain / (n_in * np.prod(window))) ** 0.5)
            arrays[f"b{i}"] = normal(n_out) * np.float32(0.1)
        np.savez(path, **arrays)


PROBLEMS: dict[str, Problem] = {
    "784-4096-1, N = 200": Problem(200, (784, 4096, 1), None, (*OURS, NT[0], *TORCH)),
    "784-1024-1024-1, N = 200": Problem(200, (784, 1024, 1024, 1), None, (*OURS, NT[0], *TORCH)),
    "CNN 64-64-64 on 3x32x32, N = 64": Problem(64, (3, 64, 64, 64, 1), (32, 32), (*OURS, *NT, *TORCH)),
    "784-4096-4096-1, N = 2000": Problem(2000, (784, 4096, 4096, 1), None, OURS[:1]),
}


@dataclass
class Row:
    """A process and what it measured."""

    name: str
    process: subprocess.Popen[str]
    kernel: Path
    seconds: list[float] = field(default_factory=list)
    version: str = ""
    peak_bytes: int | None = None
    loaded_bytes: int | None = None

    def read(self) -> dict[str, Any]:
        """The process's next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended without an answer; run it alone to see why: {self.process.args}")
        return json.loads(line)

    def turn(self) -> None:
        """One timed computation."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(self.read()["seconds"])

    def finish(self) -> None:
        """End the process and take its peak memory."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        last = self.read()
        self.peak_bytes, self.loaded_bytes = last["peak_bytes"], last["loaded_bytes"]
        self.process.wait()


def command(name: str, args: argparse.Namespace) -> list[str] | None:
    """What computes a row; None where its Python is not given."""
    if name in OURS:
        return [sys.executable, str(HERE / "kernels.py"), "--serve", name.split()[1]]
    if name in NT:
        return [args.peer_jax, str(HERE / "peers" / "kernels_nt.py"), name.split()[1]] if args.peer_jax else None
    python = args.peer_torch or (sys.executable if name == "torch.func" else None)
    return [python, str(HERE / "peers" / "kernels_torch.py"), name] if python else None


def start(problem: Problem, args: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows' processes, each warmed up, one after the other."""
    path = folder / "problem.npz"
    problem.save(path)
    threads = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    rows = []
    for name in problem.rows:
        run = command(name, args)
        if run is None or (args.only and name not in args.only):
            continue
        kernel = folder / f"{name.replace(' ', '-')}.npy"
        quiet = None if args.verbose else subprocess.DEVNULL
        process = subprocess.Popen(
            [*run, str(path), str(kernel)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=quiet,
            text=True,
            env=os.environ | threads,
        )
        row = Row(name, process, kernel)
        row.version = row.read()["version"]
        rows.append(row)
    return rows


def compare(problem: Problem, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one problem."""
    with tempfile.TemporaryDirectory() as folder:
        rows = start(problem, args, Path(folder))
        for _ in range(args.rounds):
            for row in rows:
                if len(row.seconds) < 3 or sum(row.seconds) < args.budget:
                    row.turn()
        for row in rows:
            row.finish()
        own = np.load(rows[0].kernel)
        return [
            {
                "method": row.name,
                "version": row.version,
                "seconds": row.seconds,
                "min": min(row.seconds),
                "median": statistics.median(row.seconds),
                "ratio": min(row.seconds) / min(rows[0].seconds),
                "peak_bytes": row.peak_bytes,
                "loaded_bytes": row.loaded_bytes,
                "difference": float(np.abs(np.load(row.kernel) - own).max() / np.abs(own).max()),
            }
            for row in rows
        ]


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| problem | method | least, s | median, s | runs | over whichmin | peak, GiB | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in results.items():
        for row in rows:
            peak = "–" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f}"
            lines.append(
                f"| {name} | {row['method']} | {row['min']:.3f} | {row['median']:.3f} | {len(row['seconds'])} "
                f"| {row['ratio']:.2f} | {peak} | {row['difference']:.0e} |"
            )
    return "\n".join(lines)


def serve_ours(method: str, path: str, out: str) -> None:
    """whichmin's side, in a process of its own."""
    sys.path.insert(0, str(HERE / "peers"))
    import torch
    from _protocol import problem, serve
    from kernels_torch import network

    import whichmin

    x, parameters = problem(path)
    model, inputs = network(parameters), torch.from_numpy(x)
    version = f"whichmin {whichmin.__version__}, torch {torch.__version__}"
    serve(lambda: whichmin.tangent_kernel(model, inputs, method=method).numpy(), out, version)


def main() -> None:
    """Measure, print the table, store it with its environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-jax", default=os.environ.get("WHICHMIN_PEER_JAX"), help="a Python with neural-tangents")
    parser.add_argument("--peer-torch", default=os.environ.get("WHICHMIN_PEER_TORCH"), help="a Python with nngeometry")
    parser.add_argument("--problems", nargs="+", type=int, help="numbers of the problems, from 0; all by default")
    parser.add_argument("--only", nargs="+", help="names of the rows; all by default")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds after which a row has had its turns")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="show what the processes say on standard error")
    parser.add_argument("--out", type=Path, help="the file; results/kernels.json by default")
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # inherited by the processes
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    from _environment import store

    chosen = [list(PROBLEMS)[i] for i in args.problems] if args.problems else list(PROBLEMS)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in chosen:
        results[name] = compare(PROBLEMS[name], args)
        print(table({name: results[name]}), end="\n\n", flush=True)
    hidden = ("peer_jax", "peer_torch", "out")  # places on one machine
    told = {name: value for name, value in vars(args).items() if name not in hidden}
    print(f"stored in {store('kernels', results, told, args.out)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve_ours(*sys.argv[2:])
    else:
        main()
