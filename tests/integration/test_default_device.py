"""Every verb where ``torch.set_default_device`` names another device than that of network and data.

A device without memory stands for a GPU: what is made on it, unless the caller's own code makes it, fails.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import whichmin as wm

SGD = partial(torch.optim.SGD, lr=0.1)
ADAM = partial(torch.optim.Adam, lr=1e-3)
END = {"steps": 8, "until": None}


class Told(nn.Module):
    """A network that tells the default device that it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.body = wm.networks.MLP((5, 20, 2), activation="tanh", seed=3)
        self.seen: set[str] = set()

    def forward(self, x):
        self.seen.add(torch.empty(0).device.type)
        return self.body(x)


def make(seed):
    with torch.device("cpu"):
        return wm.networks.MLP((5, 20, 2), seed=seed)


def task_of(loss=None):
    X = torch.randn(18, 5, generator=torch.Generator().manual_seed(1))
    y = X[:, :2].sign() if loss is None else (X[:, 0] > 0).long()
    return wm.Task(X[:12], y[:12], X[12:], y[12:], **({} if loss is None else {"loss": loss}))


def recorded(model, task):
    optimizer = SGD(model.parameters())
    with wm.Recorder(model, optimizer, task) as recorder:
        for _ in range(5):
            optimizer.zero_grad()
            task.loss(model(task.X), task.y).backward()
            optimizer.step()
    return wm.explain(recorder)


def whole_result(result, folder):
    """What is done with a result."""
    result.save(folder / "saved")
    result.report(folder / "it.html")
    result.to_frame()
    assert str(type(result).load(folder / "saved")) == str(result)


VERBS = {
    "kernel": lambda m, t: wm.spectrum(wm.tangent_kernel(m, t.X)),
    "train": lambda m, t: wm.train(m, t, SGD, **END),
    "train in batches": lambda m, t: wm.train(m, t, ADAM, batch_size=5, **END),
    "train in the rows' span": lambda m, t: wm.train(m, t, SGD, row_span=True, **END),
    **{
        f"predict {relinearize} {name}": partial(
            lambda m, t, relinearize, recipe: wm.predict(m, t, recipe, steps=8, relinearize=relinearize),
            relinearize=relinearize,
            recipe=recipe,
        )
        for relinearize in ("never", "path", "auto")
        for name, recipe in {"gd": SGD, "adam": ADAM, "batches": wm.Recipe(SGD, batch_size=5)}.items()
    },
    "explain": lambda m, t: wm.explain(m, t, SGD, steps=8),
    "explain a recorded loop": recorded,
    "compare": lambda m, t: wm.compare(make, t, {"gd": SGD, "adam": ADAM}, seeds=2, steps=8, train=True),
    "seeds": lambda m, t: wm.seeds(make, t, SGD, seeds=2, steps=8),
    "mitigate": lambda m, t: wm.mitigate(m, t, SGD, validation=0.25, train="all", **END),
    "leave out": lambda m, t: wm.leave_out(m, t, SGD, [[0], [1, 2]], **END),
    "leave out along paths": lambda m, t: wm.leave_out(m, t, SGD, [[0], [1, 2]], relinearize="path", **END),
    "half": lambda m, t: wm.predict(m, t, partial(torch.optim.SGD, lr="half"), steps=8),
    "monotone": lambda m, t: wm.predict(m, t, partial(torch.optim.Adam, lr="monotone"), steps=8),
    "infinite": lambda m, t: wm.infinite.predict(make(0), t, 0.1, steps=5),
    "linear": lambda m, t: wm.linear.width_sweep((20, 40), (0.5,), 2),
}


DEVICES = ["meta", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()], ids=["mse", "cross-entropy"])
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_default_device_is_not_felt(verb, loss, device, tmp_path):
    model, task = Told(), task_of(loss)
    if loss is not None and verb in (VERBS["infinite"], VERBS["linear"]):
        pytest.skip("of the mean square error only")
    torch.set_default_device(device)
    try:
        result = verb(model, task)
        if hasattr(result, "report"):
            whole_result(result, tmp_path)
        assert torch.empty(0).device.type == device
        assert model.seen <= {device}, "a network runs with the caller's default device"
    finally:
        torch.set_default_device(None)


def test_data_and_networks(tmp_path):
    plain = wm.networks.ResNet(3, 2, 8, blocks=(1, 1), seed=1).state_dict()
    torch.set_default_device("meta")
    try:
        assert wm.data.load("digits", classes=(0, 1), n_train=20, n_test=10).X.device.type == "cpu"
        assert {p.device.type for p in wm.networks.MLP((5, 20, 2), bias=True).parameters()} == {"meta"}
        assert {p.device.type for p in wm.networks.ResNet(3, 2, 8, blocks=(1, 1)).parameters()} == {"meta"}
        with torch.device("cpu"):
            drawn = wm.networks.ResNet(3, 2, 8, blocks=(1, 1), seed=1).state_dict()
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(drawn[name], plain[name]) for name in plain)
