"""Other processes, which begin with torch and whichmin read: that takes longer than most of what they do."""

from __future__ import annotations

import multiprocessing
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Any

#: What takes long to read, or is read by most of them.
READ = [
    *("torch._dynamo", "whichmin.studies.sweep", "whichmin.kernels.tile_jobs"),
    *("scipy.linalg", "safetensors.torch", "zarr", "distributed"),
]


@cache
def ready() -> BaseContext:
    """The context of processes that are forks of one that has read modules, and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(READ)
    forkserver.ensure_running()  # before Dask asks for a server that has read other modules
    return context


def address() -> Any:
    """Where the server of :func:`ready` listens, for :func:`fork_from`."""
    ready()
    return forkserver._forkserver._forkserver_address  # type: ignore[attr-defined]


def fork_from(server: Any) -> BaseContext:
    """In a process of :func:`ready`, the context of processes that are forks of the same server, not of a new one."""
    own: Any = forkserver._forkserver  # type: ignore[attr-defined]
    own._forkserver_address, own.ensure_running = server, lambda: None
    return multiprocessing.get_context("forkserver")
