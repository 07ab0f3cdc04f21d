"""Jobs done once each: read from the store where they are there, else done here or by an executor, and kept."""

from __future__ import annotations

import math
import pickle
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from whichmin.errors import InputError, OutputError, WhichminError
from whichmin.jobs.executors import Processes, as_executor, cores
from whichmin.jobs.store import Failure, Question, Store
from whichmin.jobs.threads import limited_threads

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

#: Jobs that an executor is given before the first of them is back.
AHEAD = 1000
#: The same of processes of this machine, for each of them.
AHEAD_OF_A_PROCESS = 3
#: Processes that may die over a job, or executors that may break, before that counts as a failure of the job.
DEATHS = 3
#: Seconds between two looks at jobs that other processes are at.
POLL = 0.5

_one_at_a_time = threading.Lock()


class Job(Protocol[T]):
    """Something to be done once."""

    @property
    def question(self) -> Question | None:
        """What it answers, as a store knows it; None where its answer is not kept."""
        ...

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        """The errors that are an answer of a kind; others end everything."""
        ...

    def compute(self) -> T:
        """The answer.

        Raises:
            KeyboardInterrupt: Ctrl-C, also where work ended with what there was.
        """
        ...

    def keep(self, store: Store, question: Question, answer: T) -> None:
        """Write the answer into a store."""
        ...

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Tensor]) -> T:
        """The answer that was written."""
        ...


@dataclass(frozen=True)
class Attempt(Generic[T]):
    """What came of a job: an answer, a failure, or neither where another process is at it.

    Attributes:
        answer: the answer; None also where it is in the store, to be read from there.
        failure: why there is none.
        is_kept: whether it is in the store.
        is_old: whether it is from before, so that nothing was done now.
        error: the error of a failure that happened now, or one that ends everything.
    """

    answer: T | None = None
    failure: Failure | None = None
    is_kept: bool = False
    is_old: bool = False
    error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether anything came of it."""
        return self.is_kept or self.failure is not None or self.answer is not None


@dataclass(frozen=True)
class Terms:
    """How jobs are done.

    Attributes:
        store: where answers are read from and kept; None for nowhere.
        retry: whether what failed before is tried again.
        executor: where they are done, as :func:`whichmin.jobs.executors.as_executor` takes it; None for here, one after
            the other.
        threads: how many each computes with; None for one on an executor, and to leave that alone here.
        deadline: when it ends, on the clock of ``time.perf_counter``: nothing is begun or waited for any more then, and
            what the store knows is read.
    """

    store: Store | None = None
    retry: bool = False
    executor: Executor | Any | None = None
    threads: int | None = None
    deadline: float = math.inf

    @property
    def seconds_left(self) -> float:
        """Until the deadline; 0 where it has passed."""
        return max(self.deadline - time.perf_counter(), 0.0)


def perform(jobs: Iterable[Job[T]], terms: Terms) -> Iterator[tuple[int, Attempt[T]]]:
    """Do jobs, each once, also where several processes do them in one store at a time.

    Args:
        jobs: taken one by one as there is room for them.
        terms: how they are done.

    Yields:
        The number of a job and what came of it, in the order in which they end.

    Raises:
        OutputError: an answer cannot be kept, such as on a full disk; what was kept before stays.
        InputError: what is no executor, or a job that cannot be sent to another process.
        WhichminError: the executor does not work.
    """
    numbered = enumerate(jobs)
    if terms.executor is None:
        yield from _here(numbered, terms)
    else:
        yield from _Dispatch(numbered, terms, as_executor(terms.executor)).run()


def in_order(attempts: Iterable[tuple[int, Attempt[T]]]) -> Iterator[tuple[int, Attempt[T]]]:
    """What :func:`perform` yields, in the order of the jobs; one that ends early waits for those before it."""
    waiting: dict[int, Attempt[T]] = {}
    following = 0
    for number, came in attempts:
        waiting[number] = came
        while following in waiting:
            yield following, waiting.pop(following)
            following += 1


def attempt(job: Job[T], store: Store | None, retry: bool) -> Attempt[T]:
    """Do a job unless it was done, has failed, or is being done elsewhere."""
    question = None if store is None else job.question
    if store is None or question is None:
        return _tried(job)
    with store.claim(question) as lock:
        if lock is None:
            return Attempt()
        known = _known(job, store, retry)
        if known is not None:
            return known
        tried = _tried(job)
        if tried.failure is not None:
            store.write_failure(question, tried.failure)
            return tried
        assert tried.answer is not None
        job.keep(store, question, tried.answer)
        return Attempt(tried.answer, is_kept=True)


def _known(job: Job[T], store: Store | None, retry: bool) -> Attempt[T] | None:
    """What the store knows of a job; None for nothing, or a failure that is to be tried again."""
    question = None if store is None else job.question
    if store is None or question is None:
        return None
    answer = store.read(question, job.read) if store.has(question) else None
    if answer is not None:
        return Attempt(answer, is_kept=True, is_old=True)
    failure = None if retry else store.failure(question)
    return None if failure is None else Attempt(failure=failure, is_old=True)


def _tried(job: Job[T]) -> Attempt[T]:
    try:
        return Attempt(job.compute())
    except OutputError:
        raise
    except job.failures as error:
        return Attempt(failure=Failure.of(error), error=error)


def _remote(job: Job[T] | bytes, store: Store | None, retry: bool, threads: int) -> Attempt[T] | bytes:
    """In a process of an executor. What is kept is read from the store: a scheduler holds no results.

    One job at a time in a process, whose threads and random numbers they would share. A job that came pickled is
    answered so.
    """
    try:
        with _one_at_a_time, limited_threads(threads):
            done = attempt(pickle.loads(job) if isinstance(job, bytes) else job, store, retry)
    except Exception as error:
        done = Attempt(error=error)
    error = None if done.error is None else _sendable(done.error)
    done = replace(done, answer=None if done.is_kept else done.answer, error=error)
    return pickle.dumps(done) if isinstance(job, bytes) else done


def _sendable(error: BaseException) -> BaseException:
    """An error that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _here(numbered: Iterator[tuple[int, Job[T]]], terms: Terms) -> Iterator[tuple[int, Attempt[T]]]:
    waiting: Iterable[tuple[int, Job[T]]] = numbered
    while True:
        busy: list[tuple[int, Job[T]]] = []  # other processes are at them
        for number, job in waiting:
            if not terms.seconds_left:
                done = _known(job, terms.store, terms.retry) or Attempt()
            else:
                with limited_threads(terms.threads):
                    done = attempt(job, terms.store, terms.retry)
            if done.is_over:
                yield number, done
            else:
                busy.append((number, job))
        if not busy or not terms.seconds_left:
            return
        time.sleep(POLL)
        waiting = busy


class _Dispatch(Generic[T]):
    """Jobs that an executor does."""

    def __init__(self, numbered: Iterator[tuple[int, Job[T]]], terms: Terms, executor: Executor) -> None:
        self.numbered, self.terms, self.executor = numbered, terms, executor
        self.workers = executor.workers if isinstance(executor, Processes) else None
        if isinstance(executor, ProcessPoolExecutor):
            self.workers = cores()
        self.ahead = AHEAD if self.workers is None else AHEAD_OF_A_PROCESS * self.workers
        self.flying: dict[Future[Attempt[T] | bytes], tuple[int, Job[T]]] = {}
        self.waiting: dict[int, Job[T]] = {}  # other processes are at them
        self.again: deque[tuple[int, Job[T]]] = deque()
        self.deaths: Counter[int] = Counter()
        self.breaks, self.looked = 0, -math.inf

    def run(self) -> Iterator[tuple[int, Attempt[T]]]:
        """As :func:`perform`."""
        try:
            while True:
                yield from self._filled()
                if not self.terms.seconds_left or not (self.flying or self.waiting):
                    return
                yield from self._ended()
                yield from self._waited()
        finally:
            for future in self.flying:
                future.cancel()

    def _filled(self) -> Iterator[tuple[int, Attempt[T]]]:
        """Submit jobs while there is room; what came of those that the store knows."""
        while len(self.flying) < self.ahead or not self.terms.seconds_left:
            if self.again and self.terms.seconds_left:
                self._submit(*self.again.popleft())
                continue
            number, job = next(self.numbered, (-1, None))
            if job is None:
                return
            known = self._known(job)
            if known is not None:
                yield number, known
            elif self.terms.seconds_left:
                self._submit(number, job)

    def _known(self, job: Job[T]) -> Attempt[T] | None:
        known = _known(job, self.terms.store, self.terms.retry)
        if known is not None and self.terms.store is not None and job.question is not None:
            self.terms.store.clear(job.question)
        return known

    def _submit(self, number: int, job: Job[T]) -> None:
        terms = self.terms
        sent = job if self.workers is None else _pickled(job)
        try:
            future = self.executor.submit(_remote, sent, terms.store, terms.retry, terms.threads or 1)
        except Exception as error:
            raise _out_of_order(error) from error
        self.flying[future] = (number, job)

    def _ended(self) -> Iterator[tuple[int, Attempt[T]]]:
        """What came of jobs that ended, after some time at most."""
        seconds = min(POLL if self.waiting else math.inf, self.terms.seconds_left)
        if not self.flying:
            time.sleep(seconds)
            return
        ended, _ = wait(self.flying, None if math.isinf(seconds) else seconds, FIRST_COMPLETED)
        lost: list[tuple[int, Job[T], BaseException]] = []
        for future in ended:
            number, job = self.flying.pop(future)
            error = CancelledError() if future.cancelled() else future.exception()
            if error is not None:
                lost.append((number, job, error))
                continue
            came = future.result()
            done: Attempt[T] = pickle.loads(came) if isinstance(came, bytes) else came
            if done.error is not None and done.failure is None:
                raise done.error
            if not done.is_over:
                self.waiting[number] = job
                continue
            if done.is_kept:
                known = self._known(job) or Attempt()
                done = replace(known, is_old=done.is_old)
            if done.is_over:
                self.breaks = 0
                yield number, done
            else:
                lost.append((number, job, OutputError("what was kept cannot be read back.")))
        if lost:
            yield from self._lost(lost)

    def _lost(self, lost: list[tuple[int, Job[T], BaseException]]) -> Iterator[tuple[int, Attempt[T]]]:
        """What becomes of jobs whose process died: they are done again, unless they are what kills processes."""
        self.breaks += 1
        own = isinstance(self.executor, Processes)
        for number, job, error in lost:
            if isinstance(error, BrokenExecutor) and not own:
                raise _out_of_order(error) from error
            begun = not own or self._was_begun(job)
            self.deaths[number] += begun
            if begun:
                self.breaks = 0
            if self.deaths[number] < DEATHS:
                self.again.append((number, job))
                continue
            told = f"{type(error).__name__}: {error}"
            failure = Failure("ProcessDied", f"{DEATHS} processes died over it, maybe of too little memory ({told}).")
            if self.terms.store is not None and job.question is not None:
                self.terms.store.write_failure(job.question, failure)
            yield number, Attempt(failure=failure)
        if self.breaks >= DEATHS:
            raise _out_of_order(lost[0][2]) from lost[0][2]

    def _was_begun(self, job: Job[T]) -> bool:
        """Whether a process died over it, which leaves its lock behind."""
        return self.terms.store is None or job.question is None or self.terms.store.is_abandoned(job.question)

    def _waited(self) -> Iterator[tuple[int, Attempt[T]]]:
        """What came of jobs that other processes were at; those that they gave up are done here."""
        if not self.waiting or time.monotonic() < self.looked + POLL:
            return
        self.looked = time.monotonic()
        store = self.terms.store
        assert store is not None
        for number, job in list(self.waiting.items()):
            assert job.question is not None
            is_claimed = store.is_claimed(job.question)
            known = self._known(job)
            if known is None and is_claimed:
                continue
            del self.waiting[number]
            if known is None:
                self.again.append((number, job))
            else:
                yield number, known


def _pickled(job: Job[Any]) -> bytes:
    """A job as bytes, for a process of this machine.

    Pools of processes would pickle it with torch's own ways, which move tensors into shared memory, away from arrays
    that look at them, and open a file for each.

    Raises:
        InputError: that cannot be done.
    """
    try:
        return pickle.dumps(job)
    except Exception as error:
        raise InputError(
            f"a job cannot be sent to another process ({type(error).__name__}: {error}). Models, losses and factories "
            "have to be classes and functions of a module, also within functools.partial; a lambda is none."
        ) from error


def _out_of_order(error: BaseException) -> WhichminError:
    return WhichminError(
        f"the executor does not work ({type(error).__name__}: {error or 'no reason given'}). Finished runs are kept. "
        'In a script that starts processes everything has to be under if __name__ == "__main__":.'
    )
