"""With how many threads this process computes."""

from functools import partial

import pytest
import torch
from threadpoolctl import threadpool_info

import whichmin as wm
from whichmin.dynamics.paths.predictor import Predictor
from whichmin.jobs.threads import SMALL, few_blas_threads, limited_threads


def blas_threads() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.fixture
def two_threads():
    torch_threads = torch.get_num_threads()
    with limited_threads(2):
        yield
    assert torch.get_num_threads() == torch_threads


@pytest.mark.usefixtures("two_threads")
def test_small_matrices_take_one_thread_and_torch_keeps_its_own():
    before = blas_threads()
    assert set(before) == {2}
    with few_blas_threads(SMALL, scipy=True):
        assert set(blas_threads()) == {1}
        assert torch.get_num_threads() == 2
    assert blas_threads() == before
    with few_blas_threads(SMALL + 1, scipy=True):
        assert blas_threads() == before


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_verbs_take_it(monkeypatch, verb):
    seen = []
    package = Predictor.package
    monkeypatch.setattr(Predictor, "package", lambda *a, **k: seen.append(blas_threads()) or package(*a, **k))
    torch.manual_seed(0)
    task = wm.Task(torch.randn(6, 3), torch.randn(6, 1), torch.randn(4, 3))
    model, optimizer = wm.networks.MLP([3, 16, 1], seed=0), partial(torch.optim.SGD, lr=0.1)
    getattr(wm, verb)(model, task, optimizer, steps=5, until=None)
    assert seen
    assert all(set(threads) == {1} for threads in seen)
    assert set(blas_threads()) == {2}
