"""Where real training stood on its way, and so how far rounding carries it away: begun again, a few roundings apart."""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whichmin.dynamics.paths.position import NUDGE
from whichmin.loop.row_span import RowSpan
from whichmin.loop.training_loop import Loop, state_of
from whichmin.losses import root_mean_square
from whichmin.tangent.model import trainable

#: Steps.
S = TypeVar("S", int, float)

#: Where training stands is kept when it has made so many times the steps; the last few are.
GROWTH, KEPT = 1.25, 4
#: Those few hold no more bytes than this together, unless a single one does.
MEMORY = 2**28
#: Outputs are kept where training has made so many times the steps.
SPACING = 1.5
#: At no more than so many steps they are compared on the way.
PASSED = 8
#: Those of as many rows as a step has, within these limits.
ROWS = (32, 256)
#: Training whose loss rises at more than this part of the steps may be at the edge of stability.
RISES = 0.1
#: A loss that has climbed to so many times the lowest one before is a spike.
CLIMB = 2.0
#: Losses may differ by so many times what two trainings' logarithms do at the last few steps.
MARGIN, LATE = 4.0, 8
#: What is apart grows by rounding's own accidents by less than this factor in a part of training.
GROWN = 30.0
#: It grows by less than this factor where nothing carries it on.
GROWING = 8.0
#: As a power of the steps what is apart grows on by no more than this.
LARGEST_POWER = 1.2
#: The part of training's time, and the seconds, that other ways and a second training may take together.
SHARE, FREE = 0.22, 0.3
#: The part of the steps that are made again which are the first ones: most of what is apart grows there.
EARLY = 2 / 3
#: The part of training's time that a second one may take whatever other ways have taken.
LEAST = 0.06


def _copied(value: Any) -> Any:
    """A copy of an optimizer's state: of many small tensors ``copy.deepcopy`` takes much longer."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copied(each) for each in value]
    return copy.deepcopy(value)


@dataclass(frozen=True, eq=False)
class Stand:
    """Where training stood.

    Attributes:
        step: steps made, from the beginning of training.
        network: its state dict, without parameters that are not trained.
        optimizer: that of the optimizer.
        scheduler: that of the scheduler; None without one.
    """

    step: int
    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any] | None

    @classmethod
    def of(cls, loop: Loop) -> Stand:
        """A copy of where a loop is."""
        scheduler = None if loop.scheduler is None else copy.deepcopy(loop.scheduler.state_dict())
        frozen = {name for name, p in loop.network.named_parameters() if not p.requires_grad}
        network = {name: v for name, v in state_of(loop.network).items() if name not in frozen}
        return cls(loop.done, network, _copied(loop.optimizer.state_dict()), scheduler)

    def put(self, network: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        """Bring another training of the same kind there."""
        network.load_state_dict(self.network, strict=False)
        optimizer.load_state_dict(self.optimizer)
        if scheduler is not None and self.scheduler is not None:
            scheduler.load_state_dict(self.scheduler)

    @property
    def bytes(self) -> int:
        """What it holds, of the network and the optimizer."""
        tensors = [v for state in self.optimizer["state"].values() for v in state.values() if isinstance(v, Tensor)]
        return sum(v.numel() * v.element_size() for v in (*self.network.values(), *tensors))


@dataclass(frozen=True, eq=False)
class Stretch:
    """A stretch of a training that is to be made again.

    Attributes:
        start: where it begins.
        end: the step at which it ends.
        outputs: those of training at its end; None for those at the end of training.
        span: of all of training: coordinates in which it is made again.
    """

    start: Stand
    end: int
    outputs: Tensor | None = None
    span: RowSpan | None = None


@dataclass(frozen=True, eq=False)
class Spike:
    """A climb of the loss, and its fall by half of that, in its logarithm.

    Attributes:
        start: a stand well before it.
        low: the lowest loss before it.
        peak: the largest one.
    """

    start: Stand
    low: float
    peak: float

    def is_over(self, loss: float) -> bool:
        """Whether the loss has fallen so far."""
        return loss * loss <= self.peak * self.low


class Stands:
    """The first stand of a training, the last few and one before its largest spike, and outputs on its way.

    Args:
        outputs: gives those that are compared where a loop is.
        excess: of a loss, above the lowest one that there is.
    """

    def __init__(self, outputs: Callable[[Loop], Tensor], excess: Callable[[float], float]) -> None:
        self._outputs, self._excess = outputs, excess
        self._lowest, self._height = math.inf, 0.0
        self._spike: Spike | None = None
        self._around: Stretch | None = None
        self._first: Stand | None = None
        self._last: deque[Stand] = deque(maxlen=KEPT)
        self._passed: list[tuple[int, Tensor]] = []

    def look(self, loop: Loop) -> None:
        """Called before every step."""
        if self._first is None:
            self._first = Stand.of(loop)
            return
        made = loop.done - self._first.step
        if not self._last or made >= GROWTH * (self._last[-1].step - self._first.step):
            stand = Stand.of(loop)
            while self._last and (len(self._last) + 1) * stand.bytes > MEMORY:
                self._last.popleft()
            self._last.append(stand)
        if not self._passed or made >= SPACING * (self._passed[-1][0] - self._first.step):
            self._passed.append((loop.done, self._outputs(loop)))
        if loop.epoch == 1 and loop.losses:  # the losses of single batches climb and fall anyhow
            self._look_for_spikes(loop, self._excess(loop.losses[-1]))

    def _look_for_spikes(self, loop: Loop, loss: float) -> None:
        """Keep the stretch of the largest spike, from a stand well before it: what is apart grows before it too."""
        assert self._first is not None
        if self._spike is None:
            if loss > CLIMB * self._lowest > 0:
                self._spike = Spike(self._last[-2] if len(self._last) > 1 else self._first, self._lowest, loss)
            self._lowest = min(self._lowest, loss)
            return
        self._spike = replace(self._spike, peak=max(self._spike.peak, loss))
        if self._spike.is_over(loss):
            if self._spike.peak > self._height * self._spike.low:
                self._height = self._spike.peak / self._spike.low
                self._around = Stretch(self._spike.start, loop.done, self._outputs(loop))
            self._spike, self._lowest = None, loss

    def is_seen(self, stretches: Sequence[Stretch]) -> bool:
        """Whether stretches that are made again have the largest spike of the loss in them, if there was one."""
        at = self._around
        return at is None or any(s.start.step <= at.start.step and at.end <= s.end for s in stretches)

    def wander(self, done: int, outputs: Tensor, since: int | None = None) -> float:
        """How far outputs were from those at the end of training, at most.

        Args:
            done: the step at its end.
            outputs: those there.
            since: from which step on; by default in the last two thirds.
        """
        first = 0 if self._first is None else self._first.step
        begin = first + (done - first) / 3 if since is None else since
        late = [passed for step, passed in self._passed if step >= begin]
        return max((root_mean_square(passed - outputs) for passed in late), default=math.inf)

    def passed(self, start: int, end: int) -> dict[int, Tensor]:
        """Outputs at some steps between two, by the step."""
        between = [(step, outputs) for step, outputs in self._passed if start < step < end]
        return dict(between[:: -(-len(between) // PASSED) or 1])

    def stretches(self, done: int, seconds: float, spent: float, part: float = 1.0) -> list[Stretch]:
        """What a second training has time for: all of it, or its largest spike or first steps, and its last steps.

        The first steps come before a spike within them: what rules that divide gradients by their size make of the very
        first one is seen from there alone.

        Args:
            done: steps made in the end.
            seconds: what training took.
            spent: what other ways took before it.
            part: of the seconds of training, what a second one takes if all of it is made again.
        """
        first = self._first
        if first is None or done <= first.step:
            return []
        allowed = _allowed(seconds, spent)
        if allowed >= part * seconds:
            return [Stretch(first, done)]
        steps = allowed / seconds * (done - first.step)
        around = self._around
        passed = [(step, outputs) for step, outputs in self._passed if step - first.step <= max(EARLY * steps, 1)]
        kept = [stand for stand in self._last if stand.step < done] or [first]
        last = next((stand for stand in kept if done - stand.step <= (1 - EARLY) * steps), kept[-1])
        early = [Stretch(first, *at) for at in passed[-1:]]
        is_within = around is not None and any(around.end <= stretch.end for stretch in early)
        if around is not None and not is_within and around.end - around.start.step <= steps and around.end < done:
            return [around, Stretch(last, done)]
        return [*early, Stretch(last, done)]


@dataclass(frozen=True)
class Growth:
    """What became of a few roundings in a stretch.

    Attributes:
        steps: its length.
        start: the root mean square distance of outputs at its start.
        end: the same at its end.
        way: steps from its start and the distance there, on its way.
        following: how far one step more leads, where the last one is that at which a loss was reached; else 0.
        leeway: the factor by which losses there may be off; else 1.
    """

    steps: int
    start: float
    end: float
    way: tuple[tuple[int, float], ...] = ()
    following: float = 0.0
    leeway: float = 1.0

    @property
    def widest(self) -> float:
        """The largest distance on its way."""
        return max((apart for _, apart in self.way), default=0.0)

    @property
    def is_chaotic(self) -> bool:
        """Whether what was apart grew so much that it will grow on."""
        return 0 < GROWN * self.start < self.end

    @property
    def grows(self) -> bool:
        """Whether what was apart grew by more than the first few steps of any training bring."""
        return 0 < GROWING * self.start < max(self.end, self.widest)

    def over(self, steps: int) -> float:
        """The distance after so many steps, if it grows on as it did, exponentially."""
        if not 0 < self.start < self.end:
            return self.end
        return self.end * math.exp(min(math.log(self.end / self.start) * (steps / self.steps - 1.0), 700.0))

    def carried(self, steps: int) -> float:
        """The distance after so many steps, if it grows on as it did in the last half of the stretch, as a power.

        Training that settles carries what is apart on without an exponent, about in proportion to the steps.
        """
        middle = [(step, apart) for step, apart in self.way if 2 * step <= self.steps and apart > 0]
        power = LARGEST_POWER
        if middle:
            step, apart = middle[-1]
            power = min(max(math.log(self.end / apart) / math.log(self.steps / step), 0.0), LARGEST_POWER)
        return self.end * (steps / self.steps) ** power


def is_affordable(seconds: float, spent: float) -> bool:
    """Whether there is time to make all of a training again that took so many seconds, others so many before it."""
    return _allowed(seconds, spent) >= seconds


def _allowed(seconds: float, spent: float) -> float:
    """The seconds that a second training may take."""
    return max(SHARE * seconds + FREE - spent, LEAST * seconds)


def rises(losses: Sequence[float]) -> bool:
    """Whether the training loss rose at many of the last half of the steps, or of the last eighth of them.

    So it does at the edge of stability.
    """
    late = (losses[len(losses) // 2 :], losses[len(losses) - max(2, len(losses) // 8) :])
    return any(sum(b > a for a, b in pairwise(some)) > RISES * (len(some) - 1) for some in late)


def spikes(losses: Sequence[float]) -> bool:
    """Whether the loss of the last half of the steps climbed to a multiple of the lowest before.

    At the edge of stability what is apart grows most there, and there may have been no time to see it.

    Args:
        losses: above the lowest one that there is.
    """
    lowest = list(accumulate(losses, min))
    half = len(losses) // 2
    return any(loss > CLIMB * low > 0 for loss, low in zip(losses[half + 1 :], lowest[half:-1], strict=True))


def leeway_of(trained: Mapping[S, float], twin: Mapping[S, float], margin: float = MARGIN) -> float:
    """The factor by which losses may differ: several times that of two trainings' last losses at the same steps.

    Args:
        trained: the losses of one by the step, above the lowest one that there is.
        twin: those of the other.
        margin: so many times, of the factors' logarithms.
    """
    pairs = [(trained[step], loss) for step, loss in twin.items() if step in trained][-LATE:]
    apart = max((abs(math.log(a / b)) for a, b in pairs if a > 0 and b > 0), default=0.0)
    return math.exp(min(margin * apart, 700.0))


def uncertain(losses: Mapping[S, float], until: float, leeway: float, epoch: int) -> float:
    """How many steps the one at which a loss first falls below ``until`` may be off, if losses are off by a factor.

    That is since when it may have been below, or an epoch where it is below by less than that; 0 where the factor
    leaves all as it is, or cannot be applied.

    Args:
        losses: by the step, above the lowest one that there is; the last one is below ``until`` or about that.
        until: in the same way.
        leeway: the factor.
        epoch: after how many steps the loss is looked at.
    """
    if until <= 0:  # the lowest one is not known
        return 0
    last = max(losses)
    first = next((step for step, loss in losses.items() if loss < until * leeway), last)
    return max(last - first, epoch if losses[last] * leeway >= until else 0)


def nudge(network: nn.Module) -> None:
    """Move every trainable parameter by a few roundings at random, in place; in half precision by about one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in trainable(network).values():
            eps = torch.finfo(p.dtype).eps
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.mul_((1.0 + (eps if eps > 1e-4 else NUDGE * eps) * noise).to(p))
