"""Jobs: each done once, kept, failed, given up by others, or lost with a process."""

from __future__ import annotations

import dataclasses
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from oracles.jobs import Square, computed
from whichmin.errors import InputError, OutputError, WhichminError
from whichmin.jobs import perform as module
from whichmin.jobs.executors import Processes, Submitted, as_executor
from whichmin.jobs.locks import Holder
from whichmin.jobs.perform import DEATHS, Attempt, Terms, in_order, perform
from whichmin.jobs.store import Store


@pytest.fixture(params=["here", "threads", "polled"])
def executor(request, tmp_path):
    """Where jobs are done."""
    if request.param == "here":
        yield None
        return
    with ThreadPoolExecutor(2) as threads:
        yield threads if request.param == "threads" else Submitted(threads)


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def answers(jobs, **terms):
    return {n: a.answer if a.failure is None else str(a.failure) for n, a in perform(jobs, Terms(**terms))}


def test_done_once_and_read_then(executor, store, log):
    jobs = [Square(n, log) for n in range(5)]
    expected = {n: n**2 for n in range(5)}
    assert answers(jobs, store=store, executor=executor) == expected
    assert answers(jobs, store=store, executor=executor) == expected
    assert sorted(computed(log)) == list(range(5))
    assert all(a.is_old for _, a in perform(jobs, Terms(store, executor=executor)))
    assert list(store.locks.iterdir()) == []


def test_without_a_store(executor, log):
    jobs = [Square(n, log, kept=n > 1) for n in range(3)]
    assert answers(jobs, executor=executor) == {0: 0, 1: 1, 2: 4}
    assert answers(jobs, executor=executor) == {0: 0, 1: 1, 2: 4}
    assert len(computed(log)) == 6


def test_what_is_not_kept_is_done_again(executor, store, log):
    jobs = [Square(3, log, kept=False)]
    assert answers(jobs, store=store, executor=executor) == answers(jobs, store=store, executor=executor) == {0: 9}
    assert computed(log) == [3, 3]
    assert list(store.runs.iterdir()) == []


def test_a_failure_is_kept_and_tried_again_when_asked(executor, store, log):
    jobs = [Square(1, log), Square(2, log, "fails", times=1), Square(3, log)]
    failed = {0: 1, 1: "2 has no square.", 2: 9}
    assert answers(jobs, store=store, executor=executor) == failed
    assert answers(jobs, store=store, executor=executor) == failed
    assert computed(log).count(2) == 1
    assert answers(jobs, store=store, executor=executor, retry=True) == {0: 1, 1: 4, 2: 9}
    assert answers(jobs, store=store, executor=executor) == {0: 1, 1: 4, 2: 9}
    assert (computed(log).count(1), computed(log).count(2)) == (1, 2)


@pytest.mark.parametrize(("what", "error"), [("breaks", ZeroDivisionError), ("full", OutputError)])
def test_other_errors_end_it_and_leave_what_is_done(executor, store, log, what, error):
    jobs = [Square(1, log), Square(2, log, what)]
    with pytest.raises(error):
        answers(jobs, store=store, executor=executor)
    assert [path.name for path in store.failures.iterdir()] == []
    assert list(store.locks.iterdir()) == []


def test_what_another_process_is_at_is_waited_for(executor, store, log, monkeypatch):
    monkeypatch.setattr(module, "POLL", 0.01)
    job = Square(3, log)
    with store.claim(job.question):
        found = perform([Square(2, log), job, Square(4, log)], Terms(store, executor=executor))
        first = sorted(next(found)[0] for _ in range(2))
        assert first == [0, 2]
        job.keep(store, job.question, 9)
    assert [(n, a.answer) for n, a in found] == [(1, 9)]
    assert 3 not in computed(log)


def test_what_another_process_gave_up_is_done_here(executor, store, log, monkeypatch):
    monkeypatch.setattr(module, "POLL", 0.01)
    job = Square(3, log)
    found = perform([job, Square(2, log)], Terms(store, executor=executor))
    with store.claim(job.question):
        assert next(found)[0] == 1
    assert [(n, a.answer) for n, a in found] == [(0, 9)]


def test_what_a_dead_process_left_beside_its_answer_is_taken_away(executor, store, log):
    """It died between keeping the answer and giving its lock back."""
    job = Square(3, log)
    job.keep(store, job.question, 9)
    dead = store.locks / f"{job.question.name}.0"
    dead.mkdir()
    (dead / "owner.json").write_text(json.dumps(vars(dataclasses.replace(Holder.here(), started="1"))))
    assert store.is_abandoned(job.question)
    assert answers([job], store=store, executor=executor) == {0: 9}
    assert computed(log) == []
    assert list(store.locks.iterdir()) == []


def test_equal_jobs_are_one(executor, store, log):
    assert answers([Square(3, log, seconds=0.05)] * 3, store=store, executor=executor) == {0: 9, 1: 9, 2: 9}
    assert computed(log) == [3]


class Losing:
    """An executor whose first jobs end without having been done, as those of workers that are killed."""

    def __init__(self, count):
        self.left = count

    def submit(self, function, *arguments):
        future = Future()
        self.left -= 1
        if self.left >= 0:
            future.set_exception(RuntimeError("worker lost"))
        else:
            future.set_result(function(*arguments))
        return future


def test_jobs_whose_worker_is_lost_are_done_again(store, log):
    assert answers([Square(3, log)], store=store, executor=as_executor(Losing(DEATHS - 1))) == {0: 9}
    assert computed(log) == [3]


def test_a_job_that_loses_every_worker_fails(store, log):
    found = answers([Square(3, log)], store=store, executor=as_executor(Losing(99)))
    assert found == {0: "3 processes died over it, maybe of too little memory (RuntimeError: worker lost)."}
    assert store.failure(Square(3, log).question).error == "ProcessDied"


def test_an_executor_that_is_over(store, log):
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    with pytest.raises(WhichminError, match=r"the executor does not work .*Finished runs are kept"):
        answers([Square(3, log)], store=store, executor=threads)


def test_what_is_no_executor():
    with pytest.raises(InputError, match=r"executor is 3; expected a concurrent\.futures\.Executor"):
        as_executor(3)


@pytest.mark.parametrize(("workers", "threads", "name"), [(0, 1, "workers"), (1, 0, "threads"), (True, 1, "workers")])
def test_numbers_of_processes_that_cannot_be(workers, threads, name):
    with pytest.raises(InputError, match=f"{name} is .*; expected a whole number of"):
        Processes(workers, threads)


@pytest.mark.slow
def test_a_job_that_kills_its_process_does_not_take_others_with_it(store, log, monkeypatch):
    monkeypatch.setattr(module, "DEATHS", 2)
    jobs = [Square(n, log, "dies" if n in (1, 3) else "done", times=1 if n == 1 else 99) for n in range(6)]
    with Processes(2) as processes:
        found = answers(jobs, store=store, executor=processes)
    failed = found.pop(3)
    assert "2 processes died over it" in failed
    assert found == {n: n**2 for n in (0, 1, 2, 4, 5)}
    assert computed(log).count(3) == 2


def test_after_the_deadline_nothing_is_begun_and_what_is_kept_is_read(executor, store, log):
    assert answers([Square(2, log)], store=store, executor=executor) == {0: 4}
    jobs = [Square(1, log), Square(2, log), Square(3, log)]
    assert answers(jobs, store=store, executor=executor, deadline=time.perf_counter()) == {1: 4}
    assert computed(log) == [2]


def test_what_takes_longer_than_the_deadline_is_not_waited_for(log):
    """Of two jobs the second is begun after it, and given up."""
    deadline = time.perf_counter() + 0.3
    with ThreadPoolExecutor(1) as threads:
        found = answers([Square(1, log), Square(2, log, seconds=1.0)], executor=threads, deadline=deadline)
        assert found in ({0: 1}, {}), "the first one, unless starting a thread took that long"


def test_in_the_order_of_the_jobs():
    ended = [(2, Attempt("c")), (0, Attempt("a")), (1, Attempt("b")), (3, Attempt("d"))]
    assert [(n, a.answer) for n, a in in_order(ended)] == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
