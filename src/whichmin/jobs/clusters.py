"""Executors of other machines: Dask's and Slurm's, by the libraries that users have for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from whichmin.errors import ConfigError
from whichmin.jobs.executors import THREAD_VARIABLES, cores

#: Seconds in which a scheduler has to answer.
ANSWERS_IN = 8.0
LOCAL = "local"


@contextlib.contextmanager
def dask_executor(scheduler: str, workers: int | None = None) -> Iterator[Executor]:
    """The executor of a Dask cluster; a local one is ended with the context.

    Args:
        scheduler: its address, or ``"local"`` for processes of this machine, one thread each.
        workers: of a local one, how many; as many as cores by default.

    Raises:
        ConfigError: Dask is not installed, or nothing answers at the address within ten seconds.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--dask needs Dask: pip install 'whichmin[dask]'.") from error
    with contextlib.ExitStack() as stack:
        place: Any = scheduler
        if scheduler == LOCAL:
            place = stack.enter_context(_local_cluster(workers or cores()))
        try:
            if scheduler != LOCAL:
                asyncio.run(_greet(scheduler))
            client = stack.enter_context(Client(place, timeout=ANSWERS_IN, set_as_default=False))
        except (OSError, ValueError, TypeError, MemoryError) as error:  # the last where a web server answers
            raise ConfigError(
                f"no Dask scheduler answers at {scheduler!r} within {ANSWERS_IN:g} s "
                f"({str(error) or type(error).__name__}): start one with dask scheduler and name its address (not its "
                "dashboard's), such as tcp://127.0.0.1:8786, or pass --dask local."
            ) from error
        yield client.get_executor()


def _local_cluster(workers: int) -> Any:
    """Processes of one thread each, without the habits of Dask's workers that make predictions slower.

    The threshold at which they give memory back makes the allocator ask the system for every tensor anew, their
    profiler takes the interpreter's lock a hundred times a second, and their clock and the monitors of memory and
    system sixty times together.
    """
    from dask.config import set as configured
    from distributed import LocalCluster

    habits = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_VARIABLES, 1),
        "distributed.worker.profile.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.system-monitor.interval": "10s",
        "distributed.admin.system-monitor.disk": False,
        "distributed.admin.system-monitor.gil.enabled": False,
    }
    with configured(habits):
        return LocalCluster(n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=":0")


async def _greet(scheduler: str) -> None:
    """Connect and part again: Dask's client would wait without end for one that listens and says nothing."""
    from distributed import Security
    from distributed.comm.core import connect

    secured = Security().get_connection_args("client")
    connection = await asyncio.wait_for(connect(scheduler, timeout=ANSWERS_IN, **secured), ANSWERS_IN)
    await connection.close()


def slurm_executor(folder: Path, settings: Mapping[str, Any]) -> Any:
    """Submitit's executor of Slurm jobs.

    Args:
        folder: of the jobs' scripts and logs.
        settings: as ``submitit.AutoExecutor.update_parameters`` takes them.

    Raises:
        ConfigError: submitit is not installed, there is no Slurm here, or a setting is not known.
    """
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise ConfigError("--slurm needs submitit: pip install 'whichmin[slurm]'.") from error
    try:
        executor = AutoExecutor(folder, cluster="slurm")
        executor.update_parameters(**settings)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise ConfigError(f"Slurm cannot be used here: {str(error).rstrip('.')}.") from error
    return executor
