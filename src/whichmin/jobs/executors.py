"""Where work runs: any ``concurrent.futures.Executor``, processes of this machine by default.

Nothing here imports torch, so that a new process is told its number of threads before it reads torch.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

from whichmin.errors import InputError

#: Seconds between two looks at jobs of executors whose futures tell nothing by themselves, such as submitit's.
LOOK = 0.2
#: What tells numerical libraries how many threads to compute with.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return (len(affinity(0)) if affinity is not None else os.cpu_count()) or 1


def workers_of(threads: int) -> int:
    """How many processes of so many threads each are no more than the cores together; one at least."""
    return max(1, cores() // threads)


class Processes(Executor):
    """Processes of this machine, started anew (``spawn``), that end with this one, however that ends.

    Only the work that a process died over fails, with ``BrokenProcessPool``; another process takes its place.

    Args:
        workers: how many.
        threads: how many each computes with.

    Raises:
        InputError: fewer than one of either.
    """

    def __init__(self, workers: int, threads: int = 1) -> None:
        check_count(workers, "workers", "processes")
        check_count(threads, "threads", "threads of each process")
        self.workers, self.threads = workers, threads
        self._context = multiprocessing.get_context("spawn")
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._hands: list[threading.Thread] = []
        self._lifeline: tuple[Connection, Connection] | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give a process some work."""
        work = _Work(Future(), partial(fn, *args, **kwargs))
        self._work.put(work)
        if self._lifeline is None:
            self._lifeline = self._context.Pipe(duplex=False)
        if len(self._hands) < self.workers:
            hand = threading.Thread(target=self._do, args=(self._lifeline[0],), daemon=True)
            self._hands.append(hand)
            hand.start()
        return work.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: after their work, or, without ``wait``, at once."""
        hands, self._hands = self._hands, []
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is None:
            return
        if cancel_futures or not wait:
            with contextlib.suppress(Empty):
                while True:
                    if (work := self._work.get_nowait()) is not None:
                        work.future.cancel()
        for _ in hands:
            self._work.put(None)
        if not wait:
            lifeline[1].close()
        for hand in hands:
            hand.join()
        for end in lifeline:
            end.close()

    def __exit__(self, kind: Any, *_: Any) -> None:
        """After an error what is at work is given up."""
        self.shutdown(wait=kind is None, cancel_futures=True)

    def _do(self, lifeline: Connection) -> None:
        """Hand work to one process after the other, a new one after each that died, until there is to be no more."""
        pool: ProcessPoolExecutor | None = None
        while (work := self._work.get()) is not None:
            if not work.future.set_running_or_notify_cancel():
                continue
            if pool is None:
                pool = ProcessPoolExecutor(1, self._context, initializer=_begin, initargs=(self.threads, lifeline))
            try:
                work.future.set_result(pool.submit(work.call).result())
            except BaseException as error:
                work.future.set_exception(error)
                if isinstance(error, BrokenExecutor):
                    pool.shutdown(wait=False)
                    pool = None
        if pool is not None:
            pool.shutdown(wait=True)


@dataclass(frozen=True)
class _Work:
    """What is to be called, and where its outcome is told."""

    future: Future[Any]
    call: Callable[[], Any]


class Submitted(Executor):
    """An executor whose jobs are polled, such as submitit's, as one whose futures are told.

    Args:
        executor: has ``submit(function, *args)``, which returns a job with ``done()``, ``result()`` and ``cancel()``.
    """

    def __init__(self, executor: Any) -> None:
        self.executor = executor
        self._jobs: dict[Future[Any], Any] = {}
        self._lock = threading.Lock()
        self._watch: threading.Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Give the executor some work."""
        future: Future[Any] = Future()
        with self._lock:
            self._jobs[future] = self.executor.submit(fn, *args, **kwargs)
            if self._watch is None:
                self._watch = threading.Thread(target=self._look, daemon=True)
                self._watch.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the executor alone; where futures are cancelled, cancel its jobs."""
        with self._lock:
            jobs = list(self._jobs.items())
        for future, job in jobs if cancel_futures else ():
            if future.cancel():
                with contextlib.suppress(Exception):
                    job.cancel()

    def __exit__(self, kind: Any, *_: Any) -> None:
        """After an error what is at work is given up."""
        self.shutdown(cancel_futures=kind is not None)

    def _look(self) -> None:
        while True:
            with self._lock:
                jobs = list(self._jobs.items())
                if not jobs:
                    self._watch = None
                    return
            for future, job in jobs:
                if future.cancelled() or _settled(future, job):
                    with self._lock:
                        del self._jobs[future]
            time.sleep(LOOK)


def _settled(future: Future[Any], job: Any) -> bool:
    """Whether a job has ended; its future has what came of it then."""
    try:
        if not job.done():
            return False
        result = job.result()
    except BaseException as error:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
        return True
    if future.set_running_or_notify_cancel():
        future.set_result(result)
    return True


def as_executor(executor: Any) -> Executor:
    """An executor with the interface of ``concurrent.futures``.

    Raises:
        InputError: nothing can be submitted to it.
    """
    if isinstance(executor, Executor):
        return executor
    if callable(getattr(executor, "submit", None)) and not isinstance(executor, type):
        if hasattr(executor, "get_executor"):
            raise InputError("executor is a Dask client: pass client.get_executor().")
        return Submitted(executor)
    raise InputError(
        f"executor is {executor!r}; expected a concurrent.futures.Executor, such as Dask's client.get_executor(), or "
        "submitit's."
    )


@contextlib.contextmanager
def workplace(executor: Any, workers: int | None, threads: int, jobs: int) -> Iterator[Any]:
    """Where jobs are done; processes of this machine are ended with the context.

    Args:
        executor: an executor of the caller's, which has workers of its own; None for processes of this machine.
        workers: how many processes, as many as have room on the cores for None; 0 for none, to work in this one.
        threads: how many each computes with.
        jobs: how many there are to do at most.

    Raises:
        InputError: numbers that cannot be.
    """
    if executor is not None:
        yield executor
    elif workers == 0 or not jobs:
        yield None
    else:
        with Processes(min(workers or workers_of(threads), jobs), threads) as processes:
            yield processes


def check_count(value: Any, name: str, what: str, least: int = 1) -> None:
    """Refuse what is no number of things.

    Raises:
        InputError: says what was expected.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}; expected a whole number of {what}, {least} or more.")


def _begin(threads: int, lifeline: Connection) -> None:
    """Begin a process: Ctrl-C is left to the one that started it, and it ends when that one ends or closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
