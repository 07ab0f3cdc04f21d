"""``Recorder``: follows a training loop of the user's own through the step hooks of its optimizer."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from whichmin.checkpoint import Checkpoint
from whichmin.errors import InputError, ModelError, OptimizerError, WhichminError
from whichmin.inputs import AnyInputs
from whichmin.optimizers.metric import last_metric
from whichmin.recipe.memory import OptimizerMemory
from whichmin.tangent.autograd import call
from whichmin.tangent.checks import check_modules
from whichmin.tangent.context import own_context
from whichmin.tangent.copying import private_copy
from whichmin.tangent.examine import examine
from whichmin.tangent.model import trainable
from whichmin.task import Task
from whichmin.training.blueprint import Blueprint
from whichmin.training.checkpoints import Keeper, Steps
from whichmin.training.gradients import Probe, is_another_loss
from whichmin.training.recording import Recording, Snapshot, moved_buffers
from whichmin.training.spacing import Spacing
from whichmin.training.unwrap import unwrapped_model, unwrapped_optimizer, without_autocast

if TYPE_CHECKING:
    from types import FrameType, TracebackType

#: How many snapshots are kept unless told otherwise: none is dropped in the first 2³⁰ steps.
SNAPSHOTS = 64
#: Snapshots between the first and the last look at so many training rows, and test rows, at most.
ROWS = 8192


class Recorder(Recording):
    """Watches a training loop: ``with whichmin.Recorder(model, optimizer, task) as recorder: …``.

    The model, the optimizer and their numbers are not touched. Outputs are those of a private copy in evaluation mode
    that is given the live parameters and buffers, so that a loop with a recorder is bit for bit the loop without. What
    the loop does is its own affair: mini-batches, accumulated or clipped gradients, schedulers, parameter groups,
    scaled gradients (steps that a ``GradScaler`` skips do not count). A step hook sees no batches: nothing is said of
    them unless ``explain(recorder, loader=…)`` gets the loader to replay.

    Snapshots are taken at steps 0, 1, 2, 4, 8, …, 128, 192, 256, 384, … and at the end. Of more than 8,192 training or
    test rows those between look at so many, spread evenly over all, and ``notes`` says so. After an exception or
    Ctrl-C, which goes its way, what was recorded up to there is there.

    Args:
        model: the network that the loop trains, or what torch.compile, DataParallel or accelerate made of it. What the
            loop changes of it besides parameters and buffers, such as a plain attribute, is not followed.
        optimizer: the built optimizer that the loop steps, or accelerate's wrapper of it; it holds all trainable
            parameters of the model.
        task: the data at which the network is looked at, on the model's device.
        snapshots: the most that are kept, at least 3; every other one is dropped when there would be more.
        checkpoints: the steps after which ``recorder.checkpoint(step)`` is kept, or how many at most, as for
            :func:`whichmin.train`; the first and the last are kept with them. Each is a copy of the model's state and
            of what the optimizer remembers.

    ``notes`` says at the end what changes the meaning of an explanation: buffers that moved, and gradients that are not
    of the task's loss, where they tell (:mod:`whichmin.training.gradients`).

    Cost: some microseconds a step, for a snapshot a forward pass on the training and the test inputs, and at the end,
    for mini-batches and up to 600 training outputs, two kernels and their eigendecompositions. Memory: θ₀, the
    snapshots and checkpoints, two gradients and where they were taken, at the end also θ_T and the metric, whatever the
    number of steps; learning rates that change take no more than two megabytes.

    Raises:
        OptimizerError: a factory instead of a built optimizer, or one that steps another model or a part of this one.
        ModelError: on entering, outputs that do not match the task, or rows that mix or vary even in evaluation mode;
            at a snapshot, parameters that were replaced or unfrozen.
        InputError: a recorder that is entered twice.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        task: Task,
        *,
        snapshots: int = SNAPSHOTS,
        checkpoints: Steps = (),
    ) -> None:
        model, optimizer = unwrapped_model(model), unwrapped_optimizer(optimizer)
        _check_arguments(model, optimizer, task, snapshots)
        super().__init__(task, type(optimizer).__name__)
        self._named = _followed(model, optimizer)
        self._watched: tuple[nn.Module, torch.optim.Optimizer] | None = (model, optimizer)
        self._spacing, self._keeper = Spacing(snapshots), Keeper(checkpoints)
        self._unsettled: Checkpoint | None = None  # one whose settings a scheduler may still change
        self._step: FrameType | None = None  # the call that is under way
        self._started = 0.0
        self._handles: list[Any] = []
        self._probe_due = True
        self._probes: list[Probe] = []
        self._other_loss = ""  # what an adapter knows of the loop's loss, where that is not the task's

    def __enter__(self) -> Self:
        """Copy θ₀, check the model against the task, take the first snapshot and listen to the optimizer."""
        if self._phase != "new" or self._watched is None:
            raise InputError("this recorder has been entered before: make a new one, Recorder(model, optimizer, task).")
        model, optimizer = self._watched
        self._check_same(model)
        network = without_autocast(private_copy(model)).eval()
        network.zero_grad(set_to_none=True)
        with own_context(), torch.no_grad():
            check_modules(network)
            examine(network, self.task.X, **self.task.axes).check_rows()
        self._network, self._initial = network, dict(network.state_dict())
        self._snapshots = [self._snapshot(model, optimizer)]
        self._notes += _samples(self.task)
        self._blueprint = Blueprint.of(optimizer, self._named)
        self._keeper.look(0, lambda: self._checkpoint(model, optimizer))
        self._phase, self._started = "recording", time.perf_counter()
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening and keep where the parameters are; an exception goes its way."""
        if self._phase != "recording" or self._watched is None:
            return
        self._seconds = time.perf_counter() - self._started
        for handle in self._handles:
            handle.remove()
        (model, optimizer), self._watched, self._phase = self._watched, None, "done"
        lost = ""
        try:
            self._finish(model, optimizer)
        except Exception as problem:
            lost = f" The end could not be recorded: {type(problem).__name__}: {problem}"
            if error is None:
                raise
        finally:
            self._interrupted = isinstance(error, KeyboardInterrupt)
            self._reason = _why(error, self.steps, self._ended_at(), self._step is not None) + lost
            self._named, self._step = {}, None

    def _ended_at(self) -> str:
        return f"a training {self.task.loss.label} of {self._snapshots[-1].loss:.3g}"

    def _before(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        call = sys._getframe(1)
        if not _runs_within(call, self._step):
            self._step = call
            self._settle(optimizer)
            if self._probe_due and self._watched is not None:
                self._probe(self._watched[0])
            if self._blueprint is not None:
                self._blueprint.note(self._calls, (g["lr"] for g in optimizer.param_groups if "lr" in g))

    def _after(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if sys._getframe(1) is not self._step:
            return  # a class whose step calls that of its base runs the hooks for each: the outermost counts
        self._step = None
        self._calls += 1
        skipped = optimizer.__dict__.get("found_inf")  # a GradScaler leaves it to a fused step to skip itself
        if skipped is not None:
            self._skipped = self._skipped + skipped.detach()
        if self._watched is not None:
            model = self._watched[0]
            self._keeper.look(self._calls, lambda: self._checkpoint(model, optimizer))
            if self._calls >= self._spacing.due:
                self._look(model, optimizer)

    def _probe(self, model: nn.Module) -> None:
        """Keep the gradients of the first step, and of the last one that follows a snapshot."""
        self._probe_due = False
        with own_context(), torch.no_grad():
            probe = Probe.of(self._calls, model, self._named)
        if probe is not None:
            self._probes = [*self._probes[:1], probe]

    def _look(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        if self._spacing.admits(self._snapshots):
            self._add(self._snapshot(model, optimizer, most=ROWS))
            self._probe_due = True

    def _checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Checkpoint:
        """Where the loop stands."""
        state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        self._unsettled = Checkpoint(self._calls, state, OptimizerMemory.of(optimizer, self._named, self._calls))
        return self._unsettled

    def _settle(self, optimizer: torch.optim.Optimizer) -> None:
        """Give the checkpoint of the last step the settings of the next one, which its scheduler has made since."""
        if self._unsettled is not None and self._keeper.kept and self._keeper.kept[-1] is self._unsettled:
            self._keeper.kept[-1] = replace(
                self._unsettled, memory=self._unsettled.memory.settled(optimizer, self._named)
            )
        self._unsettled = None

    def _add(self, snapshot: Snapshot) -> None:
        if self._snapshots[-1].step == snapshot.step:
            self._snapshots.pop()
        self._snapshots.append(snapshot)

    def _finish(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._add(self._snapshot(model, optimizer))
        self._keeper.end(self._calls, lambda: self._checkpoint(model, optimizer))
        self._settle(optimizer)
        self._checkpoints, self._no_checkpoints = self._keeper.kept, self._why_no_checkpoints()
        with own_context(), torch.no_grad():
            self._metric = last_metric(optimizer, self._named.items())
            self._final = {k: v.detach().clone() for k, v in model.state_dict().items()}
            moved = moved_buffers(model, self._initial, self._final)
        if moved:
            self._notes.append(_moved_note(moved, self._initial))
        self._check_loss()

    def _why_no_checkpoints(self) -> str:
        """Why the number of steps does not tell where the loop stood; nothing where it does."""
        assert self._blueprint is not None
        if not self._blueprint.fresh:
            return "the optimizer had made steps before it was recorded"
        skipped = self._calls - self.steps
        return f"a GradScaler skipped {skipped} of the loop's steps" if skipped else ""

    def _check_loss(self) -> None:
        """Remark gradients that are not of the task's loss; what cannot be told is let pass."""
        probes, self._probes = self._probes, []
        if self._other_loss:
            self._notes.append(self._other_loss)
            return
        for probe in probes:
            assert self._network is not None
            try:
                with own_context():
                    is_other = is_another_loss(probe, private_copy(self._network), self.task)
            except WhichminError:
                continue
            if is_other:
                self._notes.append(
                    f"the gradients of step {probe.step + 1} are those of the task's training rows, but not of its "
                    f"loss, {self.task.loss!r}, on any batch of them: the loop minimizes another loss, or has other "
                    "targets or weights of rows. All terms are measured against the task's own: give the task the loss "
                    "and the targets of the loop."
                )
                return

    def _snapshot(self, model: nn.Module, optimizer: torch.optim.Optimizer, most: float = float("inf")) -> Snapshot:
        """Where the loop stands, on so many training and test rows at most."""
        self._check_same(model)
        network, task = self._network, self.task
        assert network is not None
        values = {n: p.detach() for n, p in model.named_parameters()}

        def outputs(X: AnyInputs, rows: Tensor | None) -> Tensor:
            return call(network, values, X if rows is None else X[rows]).clone()

        with own_context(), torch.no_grad():
            values |= {n: b.detach().clone() for n, b in model.named_buffers()}
            rows = _spread(task.n, most)
            test_rows = None if task.X_test is None else _spread(len(task.X_test), most)
            train = outputs(task.X, rows)
            test = None if task.X_test is None else outputs(task.X_test, test_rows)
            loss = float(task.loss(train, task.y if rows is None else task.y[rows]))
            if rows is not None and getattr(task.loss, "reduction", "mean") == "sum":
                loss *= task.n / len(rows)
        rates = tuple(float(group["lr"]) for group in optimizer.param_groups if "lr" in group)
        return Snapshot(self._calls - int(self._skipped), train, test, loss, rates, rows, test_rows)

    def _check_same(self, model: nn.Module) -> None:
        now = dict(model.named_parameters())
        gone = [name for name, p in self._named.items() if now.get(name) is not p]
        if gone:
            raise ModelError(
                f"parameters of the model were replaced while they were recorded: {_listed(gone)} are no longer the "
                "tensors that the optimizer steps. Change values in place, or make the optimizer and the recorder "
                "after the change."
            )
        thawed = [name for name, p in now.items() if p.requires_grad and name not in self._named]
        if thawed:
            raise ModelError(
                f"parameters of the model became trainable while it was recorded: {_listed(thawed)}. Unfreeze them "
                "before, or record each stage with a recorder of its own."
            )


def _spread(n: int, most: float) -> Tensor | None:
    """So many of n rows, spread evenly; None for all of them."""
    return None if n <= most else torch.linspace(0, n - 1, int(most), dtype=torch.float64, device="cpu").long()


def _samples(task: Task) -> list[str]:
    """What to say where snapshots look at some rows only."""
    of = [(task.n, "training")]
    if task.X_test is not None:
        of.append((len(task.X_test), "test"))
    some = " and ".join(f"{ROWS:,} of {n:,} {kind} rows" for n, kind in of if n > ROWS)
    return [f"snapshots between the first and the last look at {some}."] if some else []


def _runs_within(call: FrameType | None, other: FrameType | None) -> bool:
    """Whether a call was made in the course of another; that other may have been left by an exception long ago."""
    while other is not None and call is not None:
        if call is other:
            return True
        call = call.f_back
    return False


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _moved_note(moved: list[str], initial: Mapping[str, Tensor]) -> str:
    """What to know where buffers moved during a loop."""
    text = (
        f"buffers of the network moved during the loop ({_listed(moved)}): what they did to the outputs is the term "
        "statistics; all other terms are of the network with its buffers before the loop."
    )
    unset = [
        name
        for name in moved
        if name.rpartition(".")[2] == "running_var"
        and bool((initial[name] == 1).all())
        and not bool(initial[name.removesuffix("running_var") + "running_mean"].any())
    ]
    if unset:
        text += (
            " These were 0 and 1, which no data had set, so that the tangent kernel is not that of the network that "
            "trained: call the model once on the training inputs in training mode (with momentum=None or 1 in its "
            "normalizations) before the recorder is entered."
        )
    return text


def _why(error: BaseException | None, steps: int, at: str, inside: bool) -> str:
    after = f"after {steps} steps, at {at}"
    if error is None:
        return f"the loop ended {after}." if steps else "the loop ended without a step."
    half = ", in the middle of a step, so that some parameters may have made it and others not" if inside else ""
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted {after}{half}."
    said = (str(error).strip().splitlines() or [""])[0][:200]
    return f"left by {type(error).__name__} {after}{half}: {said or 'no message'}"


def _check_arguments(model: Any, optimizer: Any, task: Any, snapshots: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ModelError(f"got a {type(model).__name__}; expected the torch.nn.Module that the loop trains.")
    if not isinstance(optimizer, torch.optim.Optimizer):
        what = f"a factory ({type(optimizer).__name__})" if callable(optimizer) else f"a {type(optimizer).__name__}"
        raise OptimizerError(
            f"got {what} for the optimizer; a recorder expects the built one that the loop steps, such as "
            "torch.optim.Adam(model.parameters(), lr=1e-3)."
        )
    if not isinstance(task, Task):
        raise InputError(f"got a {type(task).__name__} for the task; expected whichmin.Task(X, y, X_test, y_test).")
    if isinstance(snapshots, bool) or not isinstance(snapshots, int) or snapshots < 3:
        raise InputError(f"snapshots is {snapshots!r}; expected a whole number of at least 3.")


def _followed(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, all of them in the optimizer."""
    named, kind = trainable(model), type(optimizer).__name__
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in named.items() if id(p) not in stepped]
    if len(missing) == len(named):
        raise OptimizerError(
            f"this {kind} steps another model: it holds no trainable parameter of the {type(model).__name__}. Build it "
            "from the parameters() of this very model."
        )
    if missing:
        raise OptimizerError(
            f"this {kind} steps {len(named) - len(missing)} of the model's {len(named)} trainable parameters; missing: "
            f"{_listed(missing)}. Freeze those with requires_grad_(False), or add them to the optimizer."
        )
    return named
