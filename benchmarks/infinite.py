"""Infinite-width kernels: time and memory beside neural-tangents', and how finite networks approach the limit.

python benchmarks/infinite.py --peer-python /path/to/python-with-neural-tangents --out infinite.json

The peer's Python may also be given as WHICHMIN_PEER_JAX; without one, only our own figures are taken. Both sides
compute the same kernel of the same inputs in float64 with all cores, each in a process of its own whose peak memory is
measured; the peer's batch size is the best of those given, and each side's first call (compilation) is left out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PEER = Path(__file__).parent / "peers" / "infinite_nt.py"
CORNER = 100


def ours(request: dict[str, Any]) -> dict[str, Any]:
    """Our side of the comparison, in the shape of the peer's answer."""
    import torch

    from whichmin.infinite import FullyConnected

    torch.set_num_threads(os.cpu_count() or 1)
    x = torch.from_numpy(np.load(request["inputs"]))
    description = FullyConnected(request["depth"], bias_std=request["bias_std"])
    seconds, cpu, result = [], [], torch.empty(0)
    for _ in range(request["repeats"]):
        start, start_cpu = time.perf_counter(), time.process_time()
        result = description.ntk(x)
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "corner": result[:CORNER, -CORNER:].tolist(),
        "version": f"whichmin, torch {torch.__version__}",
    }


def ask(command: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """One side's answer, from a process of its own."""
    done = subprocess.run([*command, json.dumps(request)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time, memory and agreement for each number of features and with and without biases."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for features in args.features:
            path = Path(folder) / f"{features}.npy"
            np.save(path, np.random.default_rng(0).normal(size=(args.n, features)))
            for bias_std in (None, 0.1):
                request = {
                    "inputs": str(path),
                    "depth": args.depth,
                    "bias_std": bias_std,
                    "repeats": args.repeats + 1,
                    "corner": CORNER,
                }
                row = {"features": features, "bias_std": bias_std}
                row["ours"] = ask([sys.executable, __file__, "--ours"], request)
                if args.peer_python:
                    sizes = [b for b in args.batch_sizes if args.n % b == 0]
                    answers = [ask([args.peer_python, str(PEER)], request | {"batch_size": b}) for b in sizes]
                    row["peer"] = min(answers, key=lambda a: min(a["seconds"][1:]))
                    row["peer"]["batch_size"] = sizes[answers.index(row["peer"])]
                    row["relative_difference"] = difference(row["ours"], row["peer"])
                rows.append(row)
                print(line(row), flush=True)
                for side in ("ours", "peer"):
                    row.get(side, {}).pop("corner", None)
    return rows


def difference(ours: dict[str, Any], peer: dict[str, Any]) -> float:
    """The largest difference of the two kernels over their largest entry, on the corner that both returned."""
    a, b = np.array(ours["corner"]), np.array(peer["corner"])
    return float(np.abs(a - b).max() / np.abs(b).max())


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    name = f"d = {row['features']}, {'no biases' if row['bias_std'] is None else 'biases'}"
    mine = min(row["ours"]["seconds"][1:])
    mine_cpu = min(row["ours"]["cpu_seconds"][1:])
    text = f"{name:22} | {mine:8.2f} | {mine_cpu:6.2f} | {row['ours']['peak_bytes'] / 2**30:6.2f}"
    if "peer" in row:
        peer = min(row["peer"]["seconds"][1:])
        peer_cpu = min(row["peer"]["cpu_seconds"][1:])
        text += f" | {peer:8.2f} | {peer_cpu:6.2f} | {row['peer']['peak_bytes'] / 2**30:6.2f} "
        text += f"| {row['peer']['batch_size']:5} "
        text += f"| {peer / mine:6.1f} | {peer_cpu / mine_cpu:6.1f} |"
        text += f" {row['relative_difference']:.1e}"
    return text


def width_law(widths: list[int], seeds: int, n: int = 20, features: int = 30) -> list[dict[str, float]]:
    """The relative distance of finite networks' tangent kernels from the limit, mean over seeds, width by width."""
    import torch

    from whichmin import networks
    from whichmin.infinite import relative_distance

    X = torch.randn(n, features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = []
    for width in widths:
        found = [
            relative_distance(networks.MLP((features, width, width, 1), seed=seed, dtype=torch.float64), X)
            for seed in range(seeds)
        ]
        rows.append(
            {"width": width, "distance": float(np.mean(found)), "times_root": np.mean(found) * math.sqrt(width)}
        )
        print(f"{width:6} | {rows[-1]['distance']:.4f} | {rows[-1]['times_root']:.3f}", flush=True)
    slope = np.polyfit(np.log(widths), np.log([row["distance"] for row in rows]), 1)[0]
    print(f"slope of log distance in log width: {slope:.3f} (the law: -0.5)")
    rows.append({"slope": float(slope)})
    return rows


def environment() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": next(
            (x.split(":")[1].strip() for x in _cpuinfo() if x.startswith("model name")), platform.processor()
        ),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=os.environ.get("WHICHMIN_PEER_JAX"))
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--features", type=int, nargs="+", default=[784, 32])
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[250, 1000])
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 128, 256, 512, 1024, 2048])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    figures: dict[str, Any] = {"environment": environment(), "n": args.n, "depth": args.depth}
    print(f"N = {args.n}, depth {args.depth}, float64; seconds are the best of {args.repeats} after a first call")
    print("on all cores, their CPU time beside them (which other work on the machine changes less)")
    print(
        "inputs                 |  ours, s |  CPU s |    GiB |  peer, s |  CPU s |    GiB | batch |  ratio |    CPU "
        "| difference"
    )
    figures["kernels"] = compare(args)
    if args.widths:
        print(f"width | relative distance, mean of {args.seeds} seeds | times the root of the width")
        figures["width_law"] = width_law(args.widths, args.seeds)
    if args.out:
        args.out.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ours"]:
        print(json.dumps(ours(json.loads(sys.argv[2]))))
    else:
        main()
