from __future__ import annotations

import sys

import pytest
import torch

from whichmin.errors import ConfigError, DataError, ModelError
from whichmin.losses import loss_of
from whichmin.studies.experiment.build import build_network, build_task
from whichmin.studies.experiment.config import LOSSES, Experiment

SMALL = {"n_train": 6, "n_test": 4}


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module ``nets_under_test`` in the current folder, written by the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_under_test", raising=False)

    def write(body: str) -> None:
        (tmp_path / "nets_under_test.py").write_text("import torch\nfrom torch import nn\n" + body)

    yield write
    sys.modules.pop("nets_under_test", None)


def foreign(**options):
    experiment = Experiment(model="nets_under_test:make", **SMALL, **options)
    return experiment, build_task(experiment)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_goes_by_its_name(name):
    if name == "poisson":
        with pytest.raises(DataError, match="y has -1"):
            build_task(Experiment(loss=name, **SMALL))
        return
    task = build_task(Experiment(loss=name, **SMALL))
    assert task.loss == loss_of(getattr(torch.nn, LOSSES[name])())
    assert task.outputs == build_network(Experiment(hidden=(3,), **SMALL), task, 0)(task.X).shape[1]
    assert task.outputs == (2 if name == "cross-entropy" else 1)


def test_mlp():
    experiment = Experiment(hidden=(5, 3), classes="all", bias=True, dtype="float64", **SMALL)
    task = build_task(experiment)
    network = build_network(experiment, task, 1)
    assert network(task.X).shape == (6, 10)
    assert [tuple(p.shape) for p in network.parameters()] == [(5, 64), (5,), (3, 5), (3,), (10, 3), (10,)]
    assert {p.dtype for p in network.parameters()} == {torch.float64}


def test_cnn_gets_images():
    experiment = Experiment(network="cnn", hidden=(4,), **SMALL)
    task = build_task(experiment)
    assert task.X.shape == (6, 1, 8, 8)
    assert build_network(experiment, task, 0)(task.X).shape == (6, 1)


def test_cnn_without_images(tmp_path):
    import numpy as np

    np.savez(tmp_path / "x.npz", X=np.eye(10), y=np.arange(10.0))
    experiment = Experiment(data=str(tmp_path / "x.npz"), network="cnn", **SMALL)
    with pytest.raises(ConfigError, match=r"network is 'cnn' and the inputs of .* have shape \(10,\)"):
        build_network(experiment, build_task(experiment), 0)


def test_unknown_activation():
    experiment = Experiment(activation="rely", **SMALL)
    with pytest.raises(ModelError, match="activation is 'rely'; expected one of relu"):
        build_network(experiment, build_task(experiment), 0)


@pytest.mark.parametrize("device", ["gpu", "meta:nonsense"])
def test_unknown_device(device):
    with pytest.raises(ConfigError, match=f"device is '{device}', which cannot be used here"):
        build_task(Experiment(device=device, **SMALL))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(ConfigError, match="device is 'cuda', which cannot be used here"):
        build_task(Experiment(device="cuda", **SMALL))


@pytest.mark.parametrize(
    "signature", ["number", "seed=7", "width=1, seed=7", "*, seed"], ids=["positional", "seed", "other", "keyword"]
)
def test_a_model_gets_the_seed(nets, signature):
    name = "number" if signature == "number" else "seed"
    nets(f"def make({signature}):\n    model = nn.Linear(64, 1)\n    model.got = {name}\n    return model\n")
    assert build_network(*foreign(), 3).got == 3


def test_a_model_without_a_seed_is_drawn_from_the_seeded_generator(nets):
    nets("def make(width=4):\n    assert width == 4\n    return nn.Linear(64, 1)\n")
    before = torch.get_rng_state()
    one, same, other = (build_network(*foreign(), seed).weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_gets_the_type(nets):
    nets("def make():\n    return nn.Linear(64, 1)\n")
    assert build_network(*foreign(dtype="float64"), 0).weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import nowhere_to_be_found", "importing nets_under_test failed with ModuleNotFoundError"),
        ("", "expected a function or a class 'make'; nets_under_test does not have it"),
        ("make = 3", "expected a function or a class 'make'; nets_under_test has 3 there"),
        ("def make(a, b): ...", "needs the arguments a, b; expected one, the seed, or none"),
        ("def make(): raise ValueError('no luck')", "failed with ValueError: no luck"),
        ("def make(): return 3", "returned int; expected a torch.nn.Module"),
    ],
)
def test_a_model_that_cannot_be_had(nets, body, said):
    nets(body)
    with pytest.raises(ConfigError, match=said):
        build_network(*foreign(), 0)
