"""A verb's own context: settings of torch that it does not feel and leaves as they were."""

from functools import partial

import pytest
import torch

import whichmin as wm
from whichmin.tangent.context import own_context

BACKENDS = [("generic", "all")] + [(b, o) for b in ("cuda", "mkldnn") for o in ("all", "matmul", "conv", "rnn")]
OWNERS = [torch.backends, torch.backends.cudnn, torch.backends.cudnn.conv]


def precisions():
    """All that torch knows of the precision of products."""
    apart = [torch._C._get_fp32_precision_getter(*b) for b in BACKENDS]
    return [torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, *apart]


@pytest.fixture(params=["highest", "high", "medium"])
def precision(request):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def on_gpu(monkeypatch):
    """As where a GPU is in use; nothing is computed on it."""
    if torch.cuda.is_available():
        torch.cuda.init()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)


@pytest.mark.usefixtures("on_gpu")
def test_products_are_of_full_precision_and_settings_are_restored(precision):
    before = precisions()
    with own_context():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
        assert all(p in ("ieee", "none") for p in precisions()[2:])
        with torch.backends.cudnn.flags(enabled=False), own_context():
            pass
    assert precisions() == before


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("owner", OWNERS, ids=["all", "cuda", "conv"])
def test_precisions_that_are_set_apart(owner):
    before = owner.fp32_precision
    owner.fp32_precision = "tf32"
    try:
        apart = [torch._C._get_fp32_precision_getter(*b) for b in BACKENDS]
        with own_context():
            inside = {b: torch._C._get_fp32_precision_getter(*b) for b in BACKENDS if b[1] != "all"}
            assert set(inside.values()) <= {"ieee", "none"}
        assert [torch._C._get_fp32_precision_getter(*b) for b in BACKENDS] == apart
    finally:
        owner.fp32_precision = before


def test_kernels_and_predictions_do_not_feel_the_precision(precision):
    torch.manual_seed(0)
    X = torch.randn(40, 64)
    task, model = wm.Task(X[:30], X[:30, :1].sign(), X[30:]), wm.networks.MLP((64, 256, 1), seed=0)
    found = wm.predict(model, task, partial(torch.optim.SGD, lr=0.1), steps=5)
    K = wm.tangent_kernel(model, task.X)
    torch.set_float32_matmul_precision("highest")
    assert torch.equal(wm.tangent_kernel(model, task.X), K)
    assert torch.equal(wm.predict(model, task, partial(torch.optim.SGD, lr=0.1), steps=5).test, found.test)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_recurrent_layers_in_evaluation_mode_run_without_cudnn(kind, packed, monkeypatch):
    """Which on a GPU cannot be differentiated with it."""
    layer, x, seen = kind(3, 4, num_layers=2, bidirectional=True), torch.randn(5, 2, 3), []
    name = {"LSTM": "lstm", "GRU": "gru", "RNN": "rnn_tanh"}[kind.__name__]
    original = getattr(torch._VF, name)

    def looking(*args):
        seen.append(torch.backends.cudnn.enabled)
        return original(*args)

    inputs = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3])) if packed else x
    monkeypatch.setattr(type(torch._VF), name, staticmethod(looking), raising=False)
    plain = layer(inputs)[0]
    with own_context():
        for training in (False, True):
            layer.train(training)
            assert str(layer(inputs)[0]) == str(plain)
    assert seen == [True, False, True]
    assert torch.backends.cudnn.enabled
    assert name not in vars(torch._VF)
