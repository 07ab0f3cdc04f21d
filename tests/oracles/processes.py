"""Other processes, which begin with torch and whichmin read: that takes longer than most of what they do."""

from __future__ import annotations

import multiprocessing
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

#: What takes long to read, or is read by most of them.
READ = ["torch._dynamo", "whichmin.studies.sweeping.run", "whichmin.kernels.tile_jobs", "zarr", "distributed"]


@cache
def ready() -> BaseContext:
    """The context of processes that are forks of one that has read modules, and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(READ)
    forkserver.ensure_running()  # before Dask asks for a server that has read other modules
    return context
