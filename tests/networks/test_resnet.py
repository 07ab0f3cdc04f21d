"""The residual network: its layers, its start, and the kernel in each normalization."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import update_bn

import whichmin as wm
from oracles.finite_networks import empirical, normal
from whichmin.errors import ModelError
from whichmin.networks import ResNet

IMAGES = normal(5, 3, 8, 8)
NORMS = pytest.mark.parametrize("norm", ["group", "batch", None])


def tiny(norm="group", outputs=2, **settings):
    """Of width 4 in float64; of a batch normalization in evaluation mode, with statistics that were measured."""
    model = ResNet(outputs=outputs, width=4, norm=norm, groups=2, dtype=torch.float64, **settings)
    if norm == "batch":
        update_bn([normal(40, 3, 8, 8, seed=9)], model)
    return model.eval()


def by_hand(model, x, blocks):
    """The outputs, from the parameters by their names."""
    state = model.state_dict()

    def convolve(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2)

    def normalize(x, name):
        if f"{name}.running_mean" in state:
            settings = [state[f"{name}.{s}"] for s in ("running_mean", "running_var", "weight", "bias")]
            return F.batch_norm(x, *settings)
        return F.group_norm(x, 2, state[f"{name}.weight"], state[f"{name}.bias"]) if f"{name}.weight" in state else x

    x = torch.relu(normalize(convolve(x, "conv1"), "bn1"))
    for stage, number in enumerate(blocks, start=1):
        for block in range(number):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = torch.relu(normalize(convolve(x, f"{name}.conv1", stride), f"{name}.bn1"))
            y = normalize(convolve(y, f"{name}.conv2"), f"{name}.bn2")
            if stride == 2:
                x = normalize(convolve(x, f"{name}.downsample.0", 2), f"{name}.downsample.1")
            x = torch.relu(x + y)
    return F.linear(x.mean(dim=(2, 3)), state["fc.weight"], state["fc.bias"])


@NORMS
@pytest.mark.parametrize("blocks", [(2, 2, 2, 2), (1, 3)])
def test_by_hand(norm, blocks):
    model = tiny(norm, blocks=blocks)
    with torch.no_grad():  # so that no shift is zero and no scale one
        for i, parameter in enumerate(model.parameters()):
            parameter += 0.05 * normal(*parameter.shape, seed=i)
    torch.testing.assert_close(model(IMAGES), by_hand(model, IMAGES, blocks), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "parameters"),
    [
        ({"width": 64, "norm": "batch"}, 11_173_962),  # ResNet-18
        ({"width": 64, "norm": "group"}, 11_173_962),
        ({"width": 64, "norm": "batch", "outputs": 100}, 11_220_132),
        ({"width": 64, "norm": "batch", "blocks": (3, 4, 6, 3)}, 21_282_122),  # ResNet-34
        ({"width": 16, "norm": "batch", "blocks": (3, 3, 3)}, 272_474),  # ResNet-20, with convolutions as shortcuts
    ],
)
def test_how_many_parameters_the_usual_ones_have(settings, parameters):
    assert sum(p.numel() for p in ResNet(**settings).parameters()) == parameters


def test_names_are_those_of_torchvision():
    model = ResNet(blocks=(1, 1), norm="batch")
    block = ["conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias"]
    shortcut = ["downsample.0.weight", "downsample.1.weight", "downsample.1.bias"]
    expected = [*block[:3], *(f"layer1.0.{n}" for n in block), *(f"layer2.0.{n}" for n in block + shortcut)]
    assert [name for name, _ in model.named_parameters()] == [*expected, "fc.weight", "fc.bias"]


@NORMS
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (9, 5), (1, 1)])
def test_shapes(norm, size):
    assert tiny(norm, outputs=4)(normal(5, 3, *size)).shape == (5, 4)
    assert ResNet(2, 1, norm=norm).eval()(torch.randn(5, 2, *size)).shape == (5, 1)


@pytest.mark.parametrize(("width", "groups"), [(1, 1), (7, 7), (12, 3), (15, 5)])
def test_any_width(width, groups):
    model = ResNet(width=width, groups=groups, blocks=(1, 1))
    assert [m.num_channels for m in model.modules() if isinstance(m, nn.GroupNorm)] == [width] * 3 + [2 * width] * 3
    assert {m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm)} == {groups}
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 10)


@NORMS
def test_the_start_is_that_of_torch(norm):
    model = ResNet(width=64, blocks=(2, 2), norm=norm)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.detach()
            expected = math.sqrt(2 / (weight.shape[0] * weight.shape[2] * weight.shape[3]))
            assert float(weight.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * weight.numel()))
            assert abs(float(weight.mean())) < 4 * expected / math.sqrt(weight.numel())
            assert (module.bias is None) == (norm is not None)
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert bool((module.bias == 0).all())
    largest = 1 / math.sqrt(model.fc.in_features)
    assert 0.98 * largest < float(model.fc.weight.abs().max()) <= largest
    assert 0.5 * largest < float(model.fc.bias.abs().max()) <= largest


@NORMS
def test_blocks_that_start_as_their_shortcuts(norm):
    model = tiny(norm, zero_init_residual=True)
    block = model.layer1[1]
    x = normal(3, 4, 8, 8).abs()
    assert torch.equal(block(x), x)
    assert not torch.equal(tiny(norm).layer1[1](x), x)
    for name, parameter in model.named_parameters():
        assert bool(parameter.any()) or name.endswith(("bias", "bn2.weight", "conv2.weight"))


@NORMS
def test_a_seed_is_one_network_in_every_type(norm):
    settings = {"width": 4, "groups": 2, "norm": norm}
    single, double = ResNet(seed=3, **settings), ResNet(seed=3, dtype=torch.float64, **settings)
    for p, q in zip(single.parameters(), double.parameters(), strict=True):
        assert p.dtype == torch.float32
        assert torch.equal(p, q.float())
    assert {b.dtype for b in single.buffers()} <= {torch.float32, torch.int64}
    other = ResNet(seed=4, **settings)
    assert not torch.equal(single.conv1.weight, other.conv1.weight)
    assert not torch.equal(single.fc.weight, other.fc.weight)


def test_drawing_a_network_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = ResNet(width=8)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.conv1.weight, ResNet(width=8).conv1.weight)


@NORMS
@pytest.mark.parametrize("method", ["auto", "layerwise", "jacobian"])
def test_the_tangent_kernel(norm, method):
    model = tiny(norm)
    expected = empirical(model, IMAGES)
    K = wm.tangent_kernel(model, IMAGES, method=method)
    torch.testing.assert_close(K, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@NORMS
def test_linearization_predicts_training_the_better_the_smaller_its_steps(norm):
    model = tiny(norm, outputs=1, blocks=(1, 1))
    task = wm.Task(IMAGES, normal(5, seed=1), normal(6, 3, 8, 8, seed=2))
    errors = []
    for lr in (1e-3, 1e-7):
        optimizer = partial(torch.optim.SGD, lr=lr)
        trained = wm.train(model, task, optimizer, steps=10).test
        predicted = wm.predict(model, task, optimizer, steps=10, relinearize="never").test
        moved = float((trained - model(task.X_test).detach()).norm())
        errors.append(float((predicted - trained).norm()) / moved)
    assert errors[0] < 0.2, errors
    assert errors[1] < 1e-3 * errors[0], errors


def test_batches_are_not_normalized_by_themselves():
    model = ResNet(width=4, norm="batch", dtype=torch.float64)
    task = wm.Task(IMAGES, normal(5, 10, seed=1), IMAGES)
    optimizer = partial(torch.optim.SGD, lr=1e-3)
    for verb in (
        lambda: wm.tangent_kernel(model, IMAGES),
        lambda: wm.predict(model, task, optimizer, steps=3),
        lambda: wm.train(model, task, optimizer, steps=3),
    ):
        with pytest.raises(ModelError, match=r"layer 'bn1' \(BatchNorm2d\) .*: call model.eval\(\)"):
            verb()
    model.eval()
    unmeasured = wm.tangent_kernel(model, IMAGES)
    update_bn([IMAGES], model)
    assert float(model.bn1.running_var.min()) != 1
    assert not torch.allclose(wm.tangent_kernel(model, IMAGES), unmeasured, rtol=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "layer"}, "norm is 'layer'; expected 'group', 'batch' or None"),
        ({"width": 4}, "groups is 8 and width 4: expected a divisor of the width, such as 4"),
        ({"width": 10, "groups": 4}, "groups is 4 and width 10: expected a divisor of the width, such as 2"),
        ({"groups": 0}, "groups is 0; expected a positive integer"),
        ({"width": 0}, "width is 0; expected a positive integer"),
        ({"width": 2.5}, "width is 2.5; expected"),
        ({"outputs": -1}, "outputs is -1; expected"),
        ({"channels": 0}, "channels is 0; expected"),
        ({"blocks": ()}, r"blocks is \(\); expected a positive integer for each stage"),
        ({"blocks": (2, 0)}, r"blocks is \(2, 0\); expected"),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ModelError, match=message):
        ResNet(**settings)
