"""What a figure depends on, stored beside it: ``store`` writes results/NAME.json."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from whichmin.storage import to_json

PACKAGES = ("whichmin", "torch", "numpy", "scipy")
#: A list of numbers, names and the like, which takes a line.
_LIST = re.compile(r"\[[^\[\]{}]*\]")
RESULTS = Path(__file__).resolve().parent / "results"


def store(name: str, rows: Any, options: Mapping[str, Any], path: Path | None = None) -> Path:
    """Write figures with the options and the environment they were measured in, as JSON.

    Args:
        name: of the benchmark.
        rows: the figures.
        options: what the command was told; its ``threads`` are told with the environment.
        path: the file; results/NAME.json by default.
    """
    path = RESULTS / f"{name}.json" if path is None else path
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"environment": environment(options.get("threads")), "options": dict(options), "results": rows}
    text = to_json(told, indent=1, default=str)
    path.write_text(_LIST.sub(lambda found: " ".join(found[0].split()), text) + "\n")
    return path


def environment(threads: int | None = None, packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Python, versions, processor, cores, threads, load and date.

    Args:
        threads: how many threads the computations were held to; None where they were not.
        packages: whose versions are told, where they are installed.
    """
    return {
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := _version(name))},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": threads,
        "memory_bytes": _memory(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "date": time.strftime("%Y-%m-%d"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
