"""How far rounding carries real training away."""

import copy
import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import whichmin as wm
from whichmin.dynamics.paths import real as real_module
from whichmin.dynamics.paths import twin
from whichmin.dynamics.paths.clock import STEP, untimed
from whichmin.dynamics.paths.outcome import Outcome
from whichmin.dynamics.paths.predictor import Predictor
from whichmin.dynamics.paths.real import CHAOTIC, UNCHECKED, RealTraining
from whichmin.dynamics.paths.twin import (
    EARLY,
    FREE,
    GROWTH,
    LARGEST_POWER,
    LEAST,
    SHARE,
    Growth,
    Stands,
    Stretch,
    leeway_of,
    nudge,
    rises,
    spikes,
    uncertain,
)
from whichmin.dynamics.prepare import prepare
from whichmin.loop.training_loop import Loop

STEPLR = partial(torch.optim.lr_scheduler.StepLR, step_size=40)
RECIPES = {
    "momentum": wm.Recipe(partial(torch.optim.SGD, lr=0.05, momentum=0.9)),
    "adam": wm.Recipe(partial(torch.optim.Adam, lr=1e-2)),
    "batches": wm.Recipe(partial(torch.optim.Adam, lr=1e-2), batch_size=5, seed=3),
    "schedule": wm.Recipe(partial(torch.optim.Adam, lr=1e-2), scheduler=STEPLR, batch_size=5),
}


def problem(width: int = 24, rows: int = 12, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, wm.Task]:
    generator = torch.Generator().manual_seed(0)
    X, y, X_test = (torch.randn(n, d, generator=generator).to(dtype) for n, d in ((rows, 4), (rows, 2), (7, 4)))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width).eval(), nn.Tanh(), nn.Linear(width, 2)).to(dtype)
    return model, wm.Task(X, y, X_test)


def trained(model: nn.Module, task: wm.Task, recipe: wm.Recipe, *, steps: int, until: float | None = None) -> Outcome:
    """A prediction by real training, whose second training is made in parts where it takes more than FREE seconds."""
    with untimed():
        predictor: Predictor = prepare(model, task, recipe, (float(steps),), until=until, only_linearized=False)
        patience = real_module.Patience(None, math.inf, real_module.Progress(False))
        return RealTraining(predictor.problem).run(patience)


#: Steps that take more, and less, than what is free.
MANY, FEW = int(FREE / (1 - SHARE) / STEP) + 100, 60


@pytest.mark.parametrize("steps", [FEW, MANY])
@pytest.mark.parametrize("name", RECIPES)
def test_training_goes_on_from_a_stand_as_it_went(monkeypatch, name, steps):
    monkeypatch.setattr(real_module, "nudge", lambda network: None)
    outcome = trained(*problem(), RECIPES[name], steps=steps)
    assert outcome.error == 0.0
    assert outcome.steps_error == 0.0


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("steps", [FEW, MANY])
def test_training_that_settles_is_known_to_rounding(name, steps):
    outcome = trained(*problem(), RECIPES[name], steps=steps)
    assert 0 < outcome.error < 1e-11
    assert len(outcome.notes) == (1 if steps < MANY else 2)
    assert steps < MANY or f"of {steps} steps: what it does between is not in the error" in outcome.notes[-1]


def test_of_training_to_a_loss_the_steps_too():
    model, task = problem(dtype=torch.float32)
    outcome = trained(model, task, RECIPES["adam"], steps=2000, until=1e-3)
    assert outcome.steps < 2000
    assert outcome.curve[-1][1] < 1e-3
    assert 0 < outcome.error < 1e-4
    assert outcome.steps_error < CHAOTIC


def chaotic() -> tuple[nn.Module, wm.Task, wm.Recipe]:
    generator = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(32, 16, generator=generator), torch.randn(40, 16, generator=generator)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    task = wm.Task(X, torch.randn(32, 1, generator=generator).sign(), X_test)
    return model, task, wm.Recipe(partial(torch.optim.RMSprop, lr=5e-3), batch_size=8)


@pytest.mark.parametrize("steps", [300, 600])
def test_chaotic_training_is_not_known(steps):
    model, task, recipe = chaotic()
    outcome = trained(model, task, recipe, steps=steps)
    run = wm.train(model, task, recipe, steps=steps, until=None)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1 + 1e-6 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    again = wm.train(other, task, recipe, steps=steps, until=None)
    assert run.test is not None
    assert again.test is not None
    apart = float((run.test - again.test).square().mean().sqrt())
    assert apart > 1e-3
    assert apart / 5 < outcome.error < 5 * apart
    assert outcome.unknowable == outcome.error
    if outcome.error > CHAOTIC:
        assert "rounding carries this training away" in outcome.notes[-1]


def test_a_deadline_leaves_the_error_open(monkeypatch):
    model, task = problem()
    again = RealTraining._again  # type: ignore[attr-defined]

    def late(self, *arguments):
        arguments[-1].deadline = -math.inf
        return again(self, *arguments)

    monkeypatch.setattr(RealTraining, "_again", late)
    outcome = trained(model, task, RECIPES["adam"], steps=FEW)
    assert outcome.error == math.inf
    assert outcome.notes[-1] == UNCHECKED
    assert outcome.steps == FEW


def test_a_second_training_that_diverges_leaves_the_error_open(monkeypatch):
    def blow(network):
        for p in network.parameters():
            p.data.fill_(math.nan)

    monkeypatch.setattr(real_module, "nudge", blow)
    outcome = trained(*problem(), RECIPES["adam"], steps=FEW)
    assert outcome.error == math.inf
    assert "diverges" in outcome.notes[-1]


def stands_of(steps: int, loss: Callable[[int], float] = lambda step: 0.99**step) -> Stands:
    stands, network = Stands(lambda loop: torch.tensor([float(loop.done)]), lambda value: value), nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    losses: list[float] = []
    for step in range(steps + 1):
        losses.append(loss(step))
        loop = SimpleNamespace(
            done=step, network=network, optimizer=optimizer, scheduler=None, epoch=1, losses=losses
        )  # fmt: skip
        stands.look(loop)  # type: ignore[arg-type]
    return stands


def spiky(at: int, height: float) -> Callable[[int], float]:
    """A loss that halves in seventy steps and climbs once, over some ten steps, by a factor."""
    return lambda step: 0.99**step * (1.0 + (height - 1.0) * math.exp(-abs(step - at) / 4.0))


def test_a_spike_within_the_first_steps_is_made_again_with_the_very_first():
    """Rules that divide gradients by their size make of roundings there what no later step does."""
    stands = stands_of(1000, lambda step: 40.0 if step == 3 else 0.99**step)
    spike = stands._around
    assert spike is not None
    assert 0 < spike.start.step < spike.end < 20
    early, _ = stands.stretches(1000, 4.0, 0.0)
    assert early.start.step == 0
    assert early.end >= spike.end
    assert stands.is_seen([early])


def test_the_largest_spike_is_made_again_with_the_last_steps():
    stands = stands_of(1000, spiky(200, 40.0))
    early, late = stands.stretches(1000, 4.0, 0.0)
    assert 100 <= early.start.step < 190
    assert 200 < early.end < 215
    assert early.outputs is not None
    assert float(early.outputs) == early.end
    assert late.end == 1000
    assert stands.is_seen([early, late])
    assert not stands.is_seen([late])
    assert stands.is_seen(stands.stretches(1000, FREE, 0.0))  # all of it


def test_a_spike_that_there_is_no_time_for_is_not_seen():
    stands = stands_of(1000, spiky(600, 40.0))
    stretches = stands.stretches(1000, 10.0, 100.0)
    assert next(s.start.step for s in stretches) == 0
    assert not stands.is_seen(stretches)


def test_a_loss_that_climbs_little_has_no_spike():
    stands = stands_of(1000, spiky(200, 1.5))
    assert stands.is_seen([])


def test_which_parts_there_is_time_for():
    stands = stands_of(1000)
    (whole,) = stands.stretches(1000, FREE, 0.0)
    assert (whole.start.step, whole.end, whole.outputs) == (0, 1000, None)
    for seconds, spent in ((10.0, 0.0), (10.0, 1.0), (10.0, 100.0)):
        early, late = stands.stretches(1000, seconds, spent)
        allowed = max(SHARE * seconds + FREE - spent, LEAST * seconds) / seconds * 1000 * EARLY
        assert early.start.step == 0
        assert early.end <= allowed
        assert early.outputs is not None
        assert float(early.outputs) == early.end
        assert late.end == 1000
        assert 1000 - late.start.step <= max(allowed, 1000 * (1 - 1 / GROWTH))
        assert late.outputs is None
    assert stands.wander(1000, torch.tensor([1000.0])) == pytest.approx(1000 - 333, abs=170)
    assert stands.wander(1000, torch.tensor([1000.0]), 20) == pytest.approx(1000 - 20, abs=10)
    assert stands_of(0).stretches(0, 1.0, 0.0) == []


def test_growth():
    growth = Growth(100, 1e-6, 1e-5)
    assert growth.over(100) == pytest.approx(1e-5)
    assert growth.over(300) == pytest.approx(1e-3)
    assert Growth(100, 1e-6, 1e-7).over(1000) == 1e-7
    assert Growth(100, 0.0, 1e-7).over(1000) == 1e-7


def test_growth_that_is_carried_on_is_a_power_of_the_steps():
    most = 1e-4 * 4**LARGEST_POWER
    assert Growth(10, 1e-7, 1e-4, ((2, 1e-6), (5, 5e-5))).carried(40) == pytest.approx(4e-4)
    assert Growth(10, 1e-7, 1e-4, ((5, 1e-7),)).carried(40) == pytest.approx(most)
    assert Growth(10, 1e-7, 1e-4, ((5, 2e-4),)).carried(40) == pytest.approx(1e-4), "it does not shrink"
    assert Growth(10, 1e-7, 1e-4, ((8, 1e-7),)).carried(40) == pytest.approx(most), "no step of the first half"


def test_the_first_steps_of_adam_are_no_chaos():
    """Gradients of rounding's size move a weight by the whole rate: once, and not again and again."""
    torch.manual_seed(0)
    X, classes = torch.randn(400, 64), torch.arange(400) % 5
    X[:, 40:] = 0.0  # as pixels that are always black
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 5))
    task = wm.Task(X, classes, torch.randn(50, 64), loss=nn.CrossEntropyLoss())
    recipe = wm.Recipe(partial(torch.optim.Adam, lr=1e-3))
    with untimed():
        outcome = trained(model, task, recipe, steps=400)
    run = wm.train(model, task, recipe, steps=400, until=None, progress=False)
    other = copy.deepcopy(model)
    nudge(other)
    again = wm.train(other, task, recipe, steps=400, until=None, progress=False)
    assert run.test is not None
    assert again.test is not None
    apart = float((run.test - again.test).square().mean().sqrt())
    assert apart / 10 < outcome.error < max(100 * apart, 1e-4)


def test_rises_of_the_loss():
    falling = [1.0 / (k + 1) for k in range(100)]
    assert not rises(falling)
    assert not rises([1.0])
    assert rises(falling[:50] + [0.1, 0.2] * 25)
    assert not rises([0.1, 0.2] * 25 + falling[50:])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_nudge_is_of_a_few_roundings(dtype):
    network = nn.Linear(30, 30).to(dtype)
    before = network.weight.detach().clone()
    nudge(network)
    moved = ((network.weight.detach() - before) / before).abs().double()
    eps = torch.finfo(dtype).eps
    assert float(moved.max()) < 60 * eps
    assert float((moved > 0).double().mean()) > 0.3


def test_stands_are_of_bounded_size_and_without_what_is_frozen(monkeypatch):
    network = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
    network[0].requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
    network(torch.randn(4, 8)).sum().backward()
    optimizer.step()

    def last_of(most: int) -> list[twin.Stand]:
        monkeypatch.setattr(twin, "MEMORY", most)
        stands = Stands(lambda loop: torch.zeros(1), lambda value: value)
        for step in range(100):
            loop = SimpleNamespace(
                done=step, network=network, optimizer=optimizer, scheduler=None, epoch=1, losses=[]
            )  # fmt: skip
            stands.look(loop)  # type: ignore[arg-type]
        return list(stands._last)

    (one,) = last_of(0)
    assert set(one.network) == {name for name in network.state_dict() if not name.startswith("0.")}
    trained = 16 + 72
    assert one.bytes >= 4 * 3 * trained
    assert len(last_of(2 * one.bytes)) == 2
    assert len(last_of(10**9)) == twin.KEPT
    before = network[0].weight.clone()
    with torch.no_grad():
        network[2].weight.zero_()
    one.put(network, optimizer, None)
    assert torch.equal(network[0].weight, before)
    assert torch.equal(network[2].weight, one.network["2.weight"])


def at_the_edge(part: bool) -> Outcome:
    """Gradient descent whose loss climbs to many times its lowest before it falls below the goal."""
    generator = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(30, 20, generator=generator), torch.randn(40, 20, generator=generator)
    task = wm.Task(X, torch.randn(30, 1, generator=generator).sign(), X_test)
    model = wm.networks.MLP((20, 64, 64, 1), scale=0.5, activation="tanh", seed=0)
    rate = 0.3 * wm.spectrum(wm.tangent_kernel(model, X)).best_lr
    with pytest.MonkeyPatch.context() as patch:
        if part:
            patch.setattr(twin, "FREE", 0.02)
        return trained(model, task, wm.Recipe(partial(torch.optim.SGD, lr=rate)), steps=20_000, until=1e-3)


@pytest.mark.parametrize("part", [False, True])
def test_chance_that_brings_trainings_together_is_not_believed(monkeypatch, part):
    """The second one ends where the first does, but was apart from it on the way; or that part was not made again."""
    probe = RealTraining._probe  # type: ignore[attr-defined]
    ends: list[torch.Tensor] = []

    def together(self, loop, span=None):
        outputs = probe(self, loop, span)
        if not ends and loop.losses and loop.losses[-1] < 1e-3:
            ends.append(outputs)
        return ends[0] if ends and loop.losses and loop.losses[-1] < 1e-3 else outputs

    honest = at_the_edge(part)
    assert spikes([loss for _, loss in honest.curve])
    monkeypatch.setattr(RealTraining, "_probe", together)
    outcome = at_the_edge(part)
    assert outcome.error > (0.01 if part else 0.1 * honest.error)
    if part:
        assert outcome.steps_error > 1 / outcome.steps
        assert "rounding carries this training away" in outcome.notes[-1]


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_climb_on_the_way_is_in_the_error(monkeypatch, is_seen):
    """What a stretch around it shows; where it was not looked at, it is said how far outputs wander later."""
    model, task = problem()
    stretch: list[object] = []

    def around(self, *arguments):
        stretch[:] = [Stretch(self._first, 20, torch.full((14,), 5.0)), Stretch(self._last[-1], arguments[0])]
        return stretch if is_seen else stretch[1:]

    calm = trained(model, task, RECIPES["momentum"], steps=MANY)
    assert calm.error < 1e-9
    monkeypatch.setattr(Stands, "stretches", around)
    monkeypatch.setattr(Stands, "wander", lambda self, *arguments: 0.25)
    monkeypatch.setattr(Stands, "is_seen", lambda self, stretches: is_seen)
    outcome = trained(model, task, RECIPES["momentum"], steps=MANY)
    if is_seen:
        assert outcome.error == 0.25
        assert "rounding carries this training away" in outcome.notes[-1]
    else:
        assert calm.error < outcome.error < 0.25, "between what was seen and what may be"
        assert f"of {MANY} steps: between, it may be as far as 0.25" in outcome.notes[-1]


@pytest.mark.parametrize("optimizer", [partial(torch.optim.Adam, lr=3e-3), partial(torch.optim.SGD, lr=0.1)])
def test_what_grows_much_in_a_part_of_training_grows_on(monkeypatch, optimizer):
    """A residual network from parameters a millionth apart ends elsewhere, as its first or last steps tell."""
    torch.manual_seed(0)
    X, X_test = torch.randn(20, 3, 8, 8), torch.randn(20, 3, 8, 8)
    task = wm.Task(X, torch.arange(20) % 4, X_test, loss=nn.CrossEntropyLoss())
    model = wm.networks.ResNet(outputs=4, width=8, blocks=(1, 1, 1), seed=0)
    monkeypatch.setattr(twin, "FREE", 0.01)
    outcome = trained(model, task, wm.Recipe(optimizer), steps=60)
    other = wm.networks.ResNet(outputs=4, width=8, blocks=(1, 1, 1), seed=0)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1 + 1e-6 * torch.randn(p.shape))
    run = wm.train(other, task, optimizer, steps=60, until=None, progress=False)
    apart = float((run.test.flatten() - outcome.test[-1]).square().mean().sqrt())
    assert apart > 1e-3
    assert apart <= 4 * outcome.error
    assert outcome.error <= 30 * apart


def test_in_fewer_coordinates(monkeypatch):
    """The second training of a dense first layer, where it is faster so: the same to rounding."""
    generator = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(12, 60, generator=generator), torch.randn(7, 60, generator=generator)
    task = wm.Task(X, torch.randn(12, 1, generator=generator), X_test)
    model = wm.networks.MLP((60, 32, 1), seed=0)
    used: list[bool] = []
    timed, loop_of = RealTraining._timed, RealTraining._loop  # type: ignore[attr-defined]
    monkeypatch.setattr(RealTraining, "_timed", lambda self, span: timed(self, span) / (1 if span is None else 8))

    def noted(self, *arguments, span=None, **options):
        used.append(span is not None)
        return loop_of(self, *arguments, span=span, **options)

    monkeypatch.setattr(RealTraining, "_loop", noted)
    outcome = trained(model, task, wm.Recipe(partial(torch.optim.SGD, lr=0.1)), steps=MANY)
    assert used[-1]
    assert 0 < outcome.error < 1e-5
    run = wm.train(model, task, partial(torch.optim.SGD, lr=0.1), steps=MANY, until=None)
    assert run.test is not None
    assert torch.equal(outcome.test[-1], run.test.flatten())


def test_how_many_steps_a_loss_that_is_off_may_shift():
    losses = dict(enumerate([1.0, 0.5, 0.012, 0.4, 0.02, 0.0099]))
    assert uncertain(losses, 0.01, 1.0, 1) == 0
    assert uncertain(losses, 0.01, 1.001, 1) == 0
    assert uncertain(losses, 0.01, 1.02, 1) == 1, "it may be above yet"
    assert uncertain(losses, 0.01, 1.02, 7) == 7, "until the next epoch"
    assert uncertain(losses, 0.01, 1.3, 1) == 3, "it may have been below at step 2"
    assert uncertain({0: 1.0, 1: -2.0}, -1.0, 2.0, 1) == 0, "no factor makes it lower"


def test_how_far_losses_are_off():
    first = {0: 1.0, 1: 0.5, 2: 0.2, 3: 0.1, 4: 0.0}
    other = {0: 1.0, 1: 0.5, 2: 0.21, 3: 0.1, 4: 0.05, 5: 0.01}
    assert leeway_of(first, other) == pytest.approx(math.exp(twin.MARGIN * math.log(1.05)))
    assert leeway_of(first, first) == 1.0
    assert leeway_of({0: -1.0}, {0: 2.0}) == 1.0
    early = {s: 2.0**-s for s in range(30)}
    assert leeway_of(early | {0: 3.0}, early) == 1.0, "the last few"


@pytest.mark.parametrize("name", ["Poisson", "classes"])
def test_losses_that_are_below_zero_or_have_another_lowest_one(name):
    """Training to a loss at the edge, by a loss of which factors make no sense as they stand."""
    loss = nn.PoissonNLLLoss() if name == "Poisson" else nn.CrossEntropyLoss(label_smoothing=0.2)
    generator = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(20, 6, generator=generator), torch.randn(9, 6, generator=generator)
    y = 5.0 + 5.0 * torch.rand(20, 1, generator=generator) if name == "Poisson" else torch.arange(20) % 3
    task = wm.Task(X, y, X_test, loss=loss)
    model = wm.networks.MLP((6, 40, 40, 1 if name == "Poisson" else 3), activation="tanh", seed=0)
    recipe = wm.Recipe(partial(torch.optim.Adam, lr=0.1))
    until = wm.train(model, task, recipe, steps=60, until=None).losses.min().item() + 0.02
    outcome = trained(model, task, recipe, steps=400, until=until)
    assert (until < 0) == (name == "Poisson")
    assert outcome.error > 0
    assert 0 <= outcome.steps_error <= 1


def test_ctrl_c_in_the_step_after_the_last_one(monkeypatch):
    model, task = problem()

    def interrupted(self, steps):
        self.interrupted = True

    monkeypatch.setattr(Loop, "go_on", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(model, task, RECIPES["adam"], steps=2000, until=1e-2)


def test_how_long_training_itself_took():
    outcome = trained(*problem(), RECIPES["adam"], steps=FEW)
    assert 0 < outcome.training_seconds < 60
    model, task = problem(dtype=torch.bfloat16)
    prediction = wm.predict(model, task, partial(torch.optim.Adam, lr=1e-2), steps=3)
    assert prediction.method == "trained"
    assert 0 < prediction.training_seconds < prediction.seconds
    lazy = wm.predict(model, task, partial(torch.optim.SGD, lr=1e-3), steps=3, relinearize="never")
    assert math.isnan(lazy.training_seconds)


def test_spikes_of_a_loss():
    falls = [2.0**-n for n in range(20)]
    assert not spikes(falls)
    assert not spikes([1.0, *falls[1:3], 3.0, *falls[3:]]), "in the first half"
    assert spikes([*falls, 3 * falls[-1]])
    assert not spikes([*falls, 1.5 * falls[-1]])
    assert not spikes([1.0])
    assert not spikes([-1.0, -2.0, -3.0, -2.5]), "no multiple of a loss below zero"


def test_training_itself_in_fewer_coordinates():
    """As ``train(row_span=True)`` goes, at every step that is asked for, with its parameters; its twin too."""
    generator = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(12, 60, generator=generator).double(), torch.randn(7, 60, generator=generator).double()
    task = wm.Task(X, torch.randn(12, 1, generator=generator).double(), X_test)
    model = wm.networks.MLP((60, 32, 1), seed=0).double()
    recipe = wm.Recipe(partial(torch.optim.SGD, lr=0.1, momentum=0.5))
    for steps in (FEW, MANY):
        with untimed():
            predictor: Predictor = prepare(model, task, recipe, (5.0, float(steps)), only_linearized=False)
            real = RealTraining(predictor.problem, row_span=True)
            outcome = real.run(real_module.Patience(None, math.inf, real_module.Progress(False)))
        assert real.span is not None
        for t, train, test in zip((5, steps), outcome.train, outcome.test, strict=True):
            run = wm.train(model, task, recipe, steps=t, until=None)
            assert run.test is not None
            torch.testing.assert_close(test, run.test.flatten(), rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(train, run.train.flatten(), rtol=1e-9, atol=1e-9)
        assert outcome.state is not None
        for name, value in run.final.items():
            torch.testing.assert_close(outcome.state[name], value, rtol=1e-9, atol=1e-9)
        assert 0 < outcome.error < 1e-12


def test_predict_trains_in_fewer_coordinates_where_it_is_asked_to(monkeypatch):
    used: list[bool] = []
    loop_of = RealTraining._loop  # type: ignore[attr-defined]

    def noted(self, *arguments, span=None, **options):
        used.append(span is not None)
        return loop_of(self, *arguments, span=span, **options)

    monkeypatch.setattr(RealTraining, "_loop", noted)
    generator = torch.Generator().manual_seed(0)
    task = wm.Task(torch.randn(6, 40, generator=generator), torch.randn(6, 1, generator=generator), torch.ones(2, 40))
    model = wm.networks.MLP((40, 3, 1), scale=0.3, seed=0)
    sgd = partial(torch.optim.SGD, lr="best")
    for row_span in (False, True):
        used.clear()
        wm.predict(model, task, sgd, steps=3, row_span=row_span)
        assert used
        assert all(each is row_span for each in used)
