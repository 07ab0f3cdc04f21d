"""How much memory there is, so that a plan is made before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import torch

from whichmin.errors import MemoryPlanError


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


def require(n_bytes: int, device: torch.device, what: str, remedy: str) -> None:
    """Refuse a plan that does not fit.

    Raises:
        MemoryPlanError: with what it needs, what there is, and what would fit.
    """
    free = available_bytes(device)
    if n_bytes > free:
        raise MemoryPlanError(f"{what} needs {size(n_bytes)} and {size(free)} are free on {device}. {remedy}")
