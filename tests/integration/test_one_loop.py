"""Everything that does much work does it in one loop: what is kept, resumed, shown and sent to executors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import whichmin as wm
from oracles.comparisons import SGD, SLOW, network, problem
from oracles.processes import ready
from whichmin import linear
from whichmin.errors import DivergenceError, InputError, OptimizerError
from whichmin.jobs import perform, progress
from whichmin.papers import registry
from whichmin.papers.figure import PaperFigure, measurement
from whichmin.papers.linear_networks import gradient_flow
from whichmin.papers.reproduce import reproduce
from whichmin.studies.experiment import Experiment
from whichmin.studies.experiment import run as run_experiment

FAST = {"n_train": 12, "n_test": 8, "until": 5e-2, "dtype": "float64"}
RECIPES = {"slow": SLOW, "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.5)}
WILD = partial(torch.optim.SGD, lr=1e3)


def compare(out: Path | None, **options: Any) -> torch.Tensor:
    found = wm.compare(network, problem(), RECIPES, 3, until=1e-1, out=out, **options)
    return torch.stack(list(found.predicted.values()))


def seeds(out: Path | None, **options: Any) -> torch.Tensor:
    return wm.seeds(network, problem(), SLOW, 4, until=1e-1, out=out, **options).test


def leave_out(out: Path | None, **options: Any) -> torch.Tensor:
    """A path for each group; the plan is a job of its own."""
    groups = [[0], [1], [2], [3]]
    return wm.leave_out(network(0), problem(), SLOW, groups, steps=20, relinearize=2, out=out, **options).test


def experiment(out: Path | None, **options: Any) -> torch.Tensor:
    asked = Experiment(**FAST | {"hidden": (16,), "seeds": 3, "train": False})
    tests = [entry.explanation and entry.explanation.total for entry in run_experiment(asked, out=out, **options)]
    return torch.stack([test for test in tests if test is not None])


def sweep(out: Path, **options: Any) -> torch.Tensor:
    grid = FAST | {"width": [8, 16], "seeds": 2, "optimizer": "sgd:lr=0.5"}
    swept = wm.sweep(grid, store=out, workers=0, **options)
    return torch.stack([test for test in swept.outputs() if test is not None])


def width_sweep(out: Path | None, **options: Any) -> torch.Tensor:
    X, Y = linear.example(3, 6, 1)
    return linear.width_sweep((10, 20), (0.5,), 2, X=X, Y=Y, out=out, **options).solution_distances


def figure(out: Path, **options: Any) -> torch.Tensor:
    (found,) = reproduce(["one"], out, workers=0, **options)
    return torch.tensor(found.tables["measured"]["distance"])


@pytest.fixture(autouse=True)
def _figures(monkeypatch):
    cells = [measurement(gradient_flow, width=40, exponent=0.5, seed=seed, place="random") for seed in range(3)]
    one = PaperFigure("linear-networks", "one", "one", "a figure", "", lambda _: cells, (), lambda axes, table: None)
    monkeypatch.setattr(registry, "figures", lambda: {one.path: one})


#: Each with how many jobs it has.
VERBS: dict[Callable[..., torch.Tensor], int] = {
    compare: 6,
    seeds: 4,
    leave_out: 5,
    experiment: 3,
    sweep: 4,
    width_sweep: 4,
    figure: 3,
}
verbs = pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)


@pytest.fixture
def computed(monkeypatch):
    """The jobs that are computed, and a function that lets Ctrl-C come in place of one of them."""
    jobs: list[Any] = []
    last: list[int] = []
    tried = perform._tried

    def counted(job):
        if last and len(jobs) == last[0]:
            raise KeyboardInterrupt
        jobs.append(job)
        return tried(job)

    monkeypatch.setattr(perform, "_tried", counted)

    def interrupt_after(count: int | None) -> None:
        jobs.clear()
        last[:] = [] if count is None else [count]

    return jobs, interrupt_after


@verbs
def test_what_was_interrupted_goes_on_where_it_was(verb, computed, tmp_path):
    jobs, interrupt_after = computed
    whole = verb(tmp_path / "whole")
    assert len(jobs) == VERBS[verb]
    interrupt_after(2)
    with pytest.raises(KeyboardInterrupt):
        verb(tmp_path / "halves")
    assert len(list((tmp_path / "halves" / "runs").iterdir())) == 2
    interrupt_after(None)
    assert torch.equal(verb(tmp_path / "halves"), whole)
    assert len(jobs) == VERBS[verb] - 2, "what is missing, and nothing else"
    interrupt_after(None)
    assert torch.equal(verb(tmp_path / "halves"), whole)
    assert jobs == []
    assert list((tmp_path / "halves" / "locks").iterdir()) == []


@verbs
def test_nothing_is_shown_unless_it_is_asked_for(verb, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(progress, "DELAY", 0.0)
    verb(tmp_path / "silent", progress=False)
    assert capfd.readouterr() == ("", "")
    verb(tmp_path / "shown", progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert f"/{VERBS[verb] - (verb is leave_out)} [" in err


@pytest.mark.parametrize("verb", [compare, seeds, leave_out, width_sweep], ids=lambda verb: verb.__name__)
def test_an_executor_does_the_same(verb, tmp_path):
    alone = verb(None)
    with ThreadPoolExecutor(2) as threads:
        assert torch.equal(verb(None, executor=threads), alone)
        assert torch.equal(verb(tmp_path, executor=threads), alone)
        assert len(list((tmp_path / "runs").iterdir())) == VERBS[verb]


@pytest.mark.slow
def test_other_processes_do_the_same():
    """Of predictions the way is fixed, which depends on how fast the processes are."""
    verbs = [
        lambda executor: torch.stack(
            list(wm.compare(network, problem(), RECIPES, 2, steps=9, train=True, executor=executor).trained.values())
        ),
        lambda executor: wm.seeds(network, problem(), SLOW, 2, steps=9, relinearize=2, executor=executor).test,
        lambda executor: width_sweep(None, executor=executor),
    ]
    with ProcessPoolExecutor(1, ready()) as processes:
        for verb in verbs:
            torch.testing.assert_close(verb(processes), verb(None), rtol=1e-9, atol=1e-9)


def test_tensors_of_the_caller_stay_where_they_are():
    """Torch would move those that it sends to a process of a pool into memory that both see."""
    task = problem()
    with ProcessPoolExecutor(1, ready()) as processes:
        wm.seeds(network, task, SLOW, 2, steps=2, executor=processes)
    assert not task.X.is_shared()


def test_what_no_other_process_can_be_sent():
    with (
        ProcessPoolExecutor(1, ready()) as processes,
        pytest.raises(InputError, match=r"a job cannot be sent to another process .* a lambda is none"),
    ):
        wm.seeds(network, problem(), lambda p: torch.optim.SGD(p, lr=0.05), 2, executor=processes)


@pytest.fixture(params=["here", "threads"])
def executor(request):
    """Where jobs are done."""
    with ThreadPoolExecutor(1) as threads:
        yield None if request.param == "here" else threads


def test_failures_are_those_of_the_verbs_wherever_they_happen(executor):
    found = wm.compare(network, problem(), {"gd": SGD, "wild": WILD}, 2, until=1e-1, executor=executor)
    assert [(failure.recipe, failure.seed) for failure in found.failures] == [("wild", 0), ("wild", 1)]
    with pytest.raises(DivergenceError, match=r"^lr = 1000 diverges"):
        wm.compare(network, problem(), {"one": WILD, "other": WILD}, 2, until=1e-1, executor=executor)
    with pytest.raises(DivergenceError, match=r"^seed 0: lr = 1000 diverges") as caught:
        wm.seeds(network, problem(), WILD, 2, executor=executor)
    assert caught.value.limit < 1000


def test_what_failed_is_tried_again(tmp_path, computed):
    """A failure may have been of this machine's memory; sweeps alone, which may have thousands, keep them."""
    jobs, interrupt_after = computed
    for _ in range(2):
        interrupt_after(None)
        wm.compare(network, problem(), {"gd": SGD, "wild": WILD}, 2, until=1e-1, out=tmp_path)
    assert len(jobs) == 2


def test_a_recipe_that_a_checkpoint_refuses_is_a_failure(tmp_path):
    task = problem()
    runs = [wm.train(network(s), task, SLOW, steps=4, until=None, checkpoints=[2]) for s in range(2)]
    adam = partial(torch.optim.Adam, lr=1e-3)
    found = wm.compare(
        lambda seed: runs[seed].checkpoint(2), task, {"gd": SLOW, "adam": adam}, 2, steps=6, until=None, out=tmp_path
    )
    assert {failure.recipe for failure in found.failures} == {"adam"}
    assert len(list((tmp_path / "runs").iterdir())) == 2
    with pytest.raises(OptimizerError, match=r"^seed 0: "):
        wm.seeds(lambda seed: runs[seed].checkpoint(2), task, adam, 2, steps=6, out=tmp_path)
