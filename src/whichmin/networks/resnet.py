"""Residual networks for small images, with the modules, names and initialization of torchvision's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from whichmin.errors import ModelError

Norm = Literal["group", "batch"]


class ResNet(nn.Module):
    """A residual network of basic blocks for small images: 3×3 convolutions, shortcuts, average pooling, a dense layer.

    The stem is one 3×3 convolution without pooling, as is usual for images of 32×32. Each stage has twice the channels
    of the one before it and half the height and width; a shortcut that changes the shape is a 1×1 convolution.
    ``ResNet(width=64, norm="batch")`` is the ResNet-18 of CIFAR-10, of 11,173,962 parameters, and
    ``ResNet(blocks=(3, 3, 3), norm="batch")`` a ResNet-20. Parameters have torchvision's names, with ``bn1`` and
    ``bn2`` whatever the normalization.

    Convolutions start from He's normal law of their outputs (``kaiming_normal_``, ``fan_out``), normalizations from
    scale 1 and shift 0, the dense layer from torch's default.

    Args:
        channels: the images'.
        outputs: C.
        width: channels of the first stage; any number that ``groups`` divides.
        blocks: basic blocks of each stage.
        norm: "group", each row by itself, "batch", or None, which gives the convolutions biases that start at zero.
        groups: of each GroupNorm.
        zero_init_residual: whether every block starts as its shortcut, by a scale of zero of its last normalization,
            or, without one, by a last convolution of zeros.
        seed: of the generator that draws the parameters; drawn in float64 on the CPU, so that a seed means one network
            in every type and on every device.
        dtype: of the parameters.

    Inputs are (N, channels, height, width), outputs (N, C).

    With ``norm="batch"`` a network comes in training mode, as all of torch's do. There a row's output depends on its
    batch, no tangent kernel exists, and whichmin's verbs refuse it. They take it in evaluation mode, where the running
    statistics are constants. Those of a new network are 0 and 1 and normalize nothing: measure them first, with
    ``torch.optim.swa_utils.update_bn([X], model)`` and then ``model.eval()``.

    Raises:
        ModelError: sizes that are not positive integers, an unknown normalization, groups that do not divide the width.

    He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2016); Wu and He, "Group Normalization"
    (2018).
    """

    def __init__(
        self,
        channels: int = 3,
        outputs: int = 10,
        width: int = 16,
        blocks: Sequence[int] = (2, 2, 2, 2),
        *,
        norm: Norm | None = "group",
        groups: int = 8,
        zero_init_residual: bool = False,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check(channels=channels, outputs=outputs, width=width, groups=groups)
        if not blocks or any(int(b) != b or b < 1 for b in blocks):
            raise ModelError(f"blocks is {tuple(blocks)}; expected a positive integer for each stage, one at least.")
        with torch.device("cpu"):  # its draws are the same on every device
            layers = _Layers(norm, groups, width, torch.Generator().manual_seed(seed))
            self.conv1 = layers.convolution(channels, width, 3)
            self.bn1 = layers.norm(width)
            self._stages = tuple(f"layer{stage}" for stage in range(1, len(blocks) + 1))
            before, after = width, width
            for stage, number in zip(self._stages, blocks, strict=True):
                stride = 1 if stage == "layer1" else 2
                first = BasicBlock(before, after, stride, layers, zero_init_residual)
                others = (BasicBlock(after, after, 1, layers, zero_init_residual) for _ in range(number - 1))
                self.add_module(stage, nn.Sequential(first, *others))
                before, after = after, 2 * after
            self.fc = layers.dense(before, outputs)
        self.to(torch.get_default_device(), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, height, width) → (N, C)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self._stages:
            x = getattr(self, stage)(x)
        return self.fc(x.mean(dim=(-2, -1)))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, (N, c, H, W) → (N, c', H/stride, W/stride)."""

    def __init__(self, before: int, after: int, stride: int, layers: _Layers, zero_init_residual: bool) -> None:
        super().__init__()
        self.conv1 = layers.convolution(before, after, 3, stride)
        self.bn1 = layers.norm(after)
        self.conv2 = layers.convolution(after, after, 3)
        self.bn2 = layers.norm(after)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(layers.convolution(before, after, 1, stride), layers.norm(after))
        if zero_init_residual:
            last = self.conv2 if isinstance(self.bn2, nn.Identity) else self.bn2
            nn.init.zeros_(last.weight)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        """The rectified sum of the shortcut and the two convolutions."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _Layers:
    """Makes the layers of one network, in float64, and draws their parameters."""

    def __init__(self, norm: str | None, groups: int, width: int, generator: torch.Generator) -> None:
        if norm not in ("group", "batch", None):
            raise ModelError(f"norm is {norm!r}; expected 'group', 'batch' or None.")
        if norm == "group" and width % groups:
            raise ModelError(
                f"groups is {groups} and width {width}: expected a divisor of the width, such as "
                f"{math.gcd(groups, width)}, as every GroupNorm has groups of equal size."
            )
        self._norm, self._groups, self._generator = norm, groups, generator

    def convolution(self, before: int, after: int, size: int, stride: int = 1) -> nn.Conv2d:
        """Of odd size, with as much padding as keeps the image's size at stride 1."""
        settings: dict[str, Any] = {"stride": stride, "padding": size // 2, "bias": self._norm is None}
        layer = skip_init(nn.Conv2d, before, after, size, **settings, dtype=torch.float64)
        assert isinstance(layer, nn.Conv2d)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=self._generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        return layer

    def norm(self, channels: int) -> nn.Module:
        """Of so many channels; nothing without normalization."""
        if self._norm is None:
            return nn.Identity()
        if self._norm == "batch":
            return nn.BatchNorm2d(channels, dtype=torch.float64)
        return nn.GroupNorm(self._groups, channels, dtype=torch.float64)

    def dense(self, before: int, after: int) -> nn.Linear:
        """As ``nn.Linear`` draws it: weights and biases uniform up to 1/√fan_in."""
        layer = skip_init(nn.Linear, before, after, dtype=torch.float64)
        assert isinstance(layer, nn.Linear)
        for parameter in (layer.weight, layer.bias):
            nn.init.uniform_(parameter, -1 / math.sqrt(before), 1 / math.sqrt(before), generator=self._generator)
        return layer


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if int(size) != size or size < 1:
            raise ModelError(f"{name} is {size}; expected a positive integer.")
