"""How much memory there is, so that a plan is made before anything is allocated."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import torch

from whichmin.errors import InputError, MemoryPlanError


def available_bytes(device: torch.device) -> int:
    """Free memory on a device: of the GPU, or of the machine within the limits of its control group."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = []
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            free.append(int(limit) - used)
    except (OSError, ValueError):
        pass
    return max(0, min(free)) if free else 4 * 2**30


def size(n_bytes: float) -> str:
    """Bytes for people: ``"3.2 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if n_bytes < 1024 or unit == "TiB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    raise AssertionError("unreachable")


def require(n_bytes: int, device: torch.device, what: str, remedy: str, limit: float = math.inf) -> None:
    """Refuse a plan that does not fit, or needs more than a limit.

    Raises:
        MemoryPlanError: with what it needs, what there is, and what would fit.
    """
    if n_bytes > limit:
        raise MemoryPlanError(f"{what} needs {size(n_bytes)}, more than memory = {size(limit)}. {remedy}")
    free = available_bytes(device)
    if n_bytes > free:
        raise MemoryPlanError(f"{what} needs {size(n_bytes)} and {size(free)} are free on {device}. {remedy}")


#: Units that sizes may be given in.
UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def parse_size(value: float | str | None, name: str) -> float:
    """A size in bytes, as a number or a text such as ``"6 GiB"``; infinity for None.

    Raises:
        InputError: neither.
    """
    if value is None:
        return math.inf
    text = str(value).strip().lower().removesuffix("b").removesuffix("i").strip() or "?"
    unit = UNITS.get(text[-1], 0)
    try:
        found = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        found = math.nan
    if not found > 0:
        raise InputError(f'{name} is {value!r}; expected a number of bytes, or a text such as "6 GiB".')
    return found


@dataclass(frozen=True)
class Memory:
    """Where a kernel may be held.

    Attributes:
        limit: bytes of memory that a prediction may take.
        tiles: a folder for the tiles of a kernel that does not fit; None to refuse it.
        progress: whether filling the folder shows its progress.
        executor: where tiles are made and multiplied; here by default.
        products: whether products with a kernel are enough, so that one that fits nowhere need not be held.
    """

    limit: float = math.inf
    tiles: Path | None = None
    progress: bool = False
    executor: Executor | None = None
    products: bool = False

    def free(self, device: torch.device) -> float:
        """How many bytes there are."""
        return min(self.limit, available_bytes(device))
