"""``seeds``: many initializations, predicted."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.comparisons import SGD, SLOW, network, problem
from whichmin.decision import Decision
from whichmin.errors import DivergenceError, InputError, ModelError
from whichmin.studies.initializations import few_threads


@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_predict_seed_by_seed(outputs):
    task = problem(outputs)
    found = wm.seeds(lambda seed: network(seed, outputs), task, SGD, 4, until=1e-3)
    with few_threads(network(0, outputs), task):  # rounding depends on their number
        alone = [wm.predict(network(s, outputs), task, SGD, until=1e-3, tol=2e-2) for s in range(4)]
    test = torch.stack([p.test for p in alone])
    assert torch.equal(found.test, test)
    assert found.error.tolist() == [p.error for p in alone]
    assert torch.equal(found.mean, test.mean(0))
    assert torch.allclose(found.seed_std, ((test - test.mean(0)).square().sum(0) / 3).sqrt())
    assert torch.allclose(found.test_error, (test - task.y_test).square().mean(dim=(1, 2)))
    right = (test > 0) == (task.y_test > 0) if outputs == 1 else test.argmax(-1) == task.y_test.argmax(-1)
    assert torch.equal(found.accuracy, right.double().flatten(1).mean(1))


def test_a_remark_of_many_seeds_is_told_once():
    task = problem()
    twice = wm.Task(torch.cat([task.X, task.X[:1]]), torch.cat([task.y, task.y[:1]]), task.X_test)
    found = wm.seeds(network, twice, SGD, 5, steps=20, relinearize="never")
    (alone,) = wm.predict(network(0), twice, SGD, steps=20, relinearize="never").notes
    assert "eigenvalues" in alone
    assert found.notes == (f"seed 0: {alone} Likewise 4 more seeds.",)


def test_flips_against_the_majority():
    spread = wm.SeedSpread(
        wm.Task(torch.ones(3, 1), torch.arange(3.0), torch.ones(2, 1)),
        torch.tensor([[[0.4], [3.0]], [[-1.0], [2.0]], [[0.3], [1.0]], [[-2.0], [0.5]]]),
        torch.zeros(4),
        torch.tensor([[1, 2], [0, 2], [1, 2], [0, 0]]),
        0.0,
    )
    assert spread.majority.tolist() == [0, 2]
    assert spread.flip_probability.tolist() == [0.5, 0.25]
    assert spread.test_error is spread.accuracy is None
    assert "target" not in spread.to_frame()


def test_class_numbers_are_judged_by_their_loss(tmp_path):
    task = problem(3)
    task = wm.Task(task.X, task.y.argmax(1), task.X_test, task.y_test.argmax(1), nn.CrossEntropyLoss())
    found = wm.seeds(lambda seed: network(seed, 3), task, SGD, 3, until=0.1)
    losses = [float(nn.functional.cross_entropy(test, task.y_test)) for test in found.test]
    assert found.test_error.tolist() == pytest.approx(losses, rel=1e-12)
    assert torch.equal(found.accuracy, (found.labels == task.y_test).double().mean(1))
    found.save(tmp_path / "seeds")
    back = wm.SeedSpread.load(tmp_path / "seeds")
    assert torch.equal(back.test_error, found.test_error)
    assert back.to_frame()["target"].tolist() == task.encoded(task.y_test).reshape(-1).tolist()
    back.report(tmp_path / "page.html")
    assert "The test error (cross-entropy) is" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_labels_are_those_of_the_targets_middle():
    task = problem()
    shifted = wm.Task(task.X, task.y + 5, task.X_test, task.y_test + 5)
    found = wm.seeds(network, shifted, SGD, 3, until=1e-3)
    assert torch.equal(found.labels, (found.test[..., 0] > 5).long())
    three = wm.seeds(lambda seed: network(seed, 3), problem(3), SGD, 3, until=1e-3)
    assert torch.equal(three.labels, three.test.argmax(-1))


def test_a_factory_of_torchs_own_generator():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()

    def make(seed):
        return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1)).double()

    first, second = (wm.seeds(make, problem(), SGD, 2, steps=9) for _ in range(2))
    assert torch.equal(first.test, second.test)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_saved_and_in_a_frame(tmp_path):
    found = wm.seeds(network, problem(), SGD, 3, until=1e-3)
    found.save(tmp_path / "seeds")
    back = wm.SeedSpread.load(tmp_path / "seeds")
    assert torch.equal(back.test, found.test)
    assert torch.equal(back.flip_probability, found.flip_probability)
    assert back.notes == found.notes
    frame = back.to_frame()
    assert len(frame) == 14
    assert frame["seed_std"].to_numpy() == pytest.approx(found.seed_std[:, 0].numpy())


@pytest.mark.slow
def test_flips_are_those_of_trained_seeds():
    """Digits, few points and a large initialization; other seeds are trained than those that are predicted."""
    task = wm.data.load("digits", classes=(3, 8), n_train=20, n_test=100, seed=0)
    descent, n, m = partial(torch.optim.SGD, lr="best"), 30, 30

    def digits_network(seed):
        return wm.networks.MLP([64, 128, 1], scale=1.5, seed=seed)

    found = wm.seeds(digits_network, task, descent, n, until=5e-2)
    runs = [wm.train(digits_network(s), task, descent, until=5e-2) for s in range(n, n + m)]
    labels = torch.from_numpy(Decision.of(task).labels(torch.stack([run.test for run in runs])))
    p, k = found.flip_probability, (labels != found.majority).double().sum(0)
    q = (k + n * p) / (m + n)
    off = (k / m - p).abs() - 1.96 * (q * (1 - q) * (1 / m + 1 / n)).sqrt()
    assert int((p > 0).sum()) >= 20, "points that flip"
    assert float((off <= 1e-12).double().mean()) >= 0.95
    assert abs(float(p.mean()) - float((k / m).mean())) < 0.03


@pytest.mark.slow
def test_the_spread_of_trained_seeds():
    task, until = problem(), 1e-3
    found = wm.seeds(partial(network, width=512), task, SGD, 8, until=until, tol=5e-3)
    trained = torch.stack([wm.train(network(s, width=512), task, SGD, until=until).test for s in range(8)])
    off = (found.test - trained).square().mean().sqrt()
    size = trained.std(dim=0).square().mean().sqrt()
    assert off < 0.1 * size
    assert torch.allclose(found.seed_std, trained.std(dim=0), atol=0.1 * float(size))
    labels = trained[..., 0] > 0
    assert ((found.labels == 1) == labels).double().mean() > 0.98


SAME = network(0)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (SAME, "got a network, MLP, where a factory of networks is needed"),
        (3, "got 3, where a factory of networks is needed"),
        (lambda seed: SAME, "the same object again for seed 1"),
        (lambda seed: network(0), "the same parameters for seeds 0 and 1: it ignores its seed"),
        (lambda seed: "network", "returned a str for seed 0"),
        (lambda: network(0), "failed for seed 0: .* takes 0 positional arguments"),
    ],
    ids=["network", "number", "same object", "ignores its seed", "text", "no argument"],
)
def test_factories_that_are_none(factory, said):
    with pytest.raises(ModelError, match=said):
        wm.seeds(factory, problem(), SGD, 2)
    with pytest.raises(ModelError, match=said):
        wm.compare(factory, problem(), {"one": SGD, "other": SGD}, 2)


@pytest.mark.parametrize("as_recipe", [True, False])
def test_batches_come_in_one_order_for_all_seeds(as_recipe):
    settings = {"batch_size": 3, "seed": 5, "scheduler": partial(torch.optim.lr_scheduler.StepLR, step_size=4)}
    recipe = (wm.Recipe(SLOW, **settings),) if as_recipe else (SLOW,)
    found = wm.seeds(network, problem(), *recipe, seeds=2, steps=9, **({} if as_recipe else settings))
    for seed in range(2):
        with few_threads(network(seed), problem()):
            alone = wm.predict(network(seed), problem(), SLOW, steps=9, tol=2e-2, **settings)
        assert torch.equal(found.test[seed], alone.test)
        assert found.error[seed] == alone.error


@pytest.mark.parametrize("n", [1, 0, True])
def test_a_single_seed(n):
    with pytest.raises(InputError, match="a single seed where their differences are asked for"):
        wm.seeds(network, problem(), SGD, n)
    with pytest.raises(InputError, match="a single seed where their differences are asked for"):
        wm.compare(network, problem(), {"one": SGD, "other": SGD}, n)


def test_no_number_of_seeds():
    with pytest.raises(InputError, match=r"seeds is 2\.5; expected a whole number"):
        wm.seeds(network, problem(), SGD, 2.5)


def test_no_test_inputs():
    with pytest.raises(InputError, match="no test inputs"):
        wm.seeds(network, problem(tested=False), SGD, 2)
    with pytest.raises(InputError, match="no test inputs"):
        wm.compare(network, problem(tested=False), {"one": SGD, "other": SGD}, 2)


def test_a_failure_names_its_seed():
    with pytest.raises(DivergenceError, match=r"^seed 0: lr = 1000 diverges") as caught:
        wm.seeds(network, problem(), partial(torch.optim.SGD, lr=1000.0), 2)
    assert caught.value.limit < 1000


@pytest.mark.parametrize(("width", "threads"), [(512, 1), (65536, 2)])
def test_small_networks_take_one_thread(width, threads):
    task, before = problem(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with few_threads(wm.networks.MLP([task.X.shape[1], width, 8, 1]), task):
            assert torch.get_num_threads() == threads
        with pytest.raises(KeyError), few_threads(wm.networks.MLP([task.X.shape[1], 4, 1]), task):
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
