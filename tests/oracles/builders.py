from __future__ import annotations

import math

import torch

from whichmin import Task
from whichmin.decomposition.explanation import Explanation
from whichmin.dynamics.prediction import Certificate, Curve, Prediction
from whichmin.mitigation import Mitigation, Outcome, Remedy, Search
from whichmin.mitigation.mitigation import recommended
from whichmin.report import Entry
from whichmin.studies.comparison import Comparison, Failure
from whichmin.training.run import Run

N, N_TEST, STEPS = 40, 60, 3000


def make_task(outputs: int = 1, features: int = 784, targets: bool = True) -> Task:
    """Two classes as ±1, or one-hot rows."""
    g = torch.Generator().manual_seed(7)
    X, X_test = torch.randn(N, features, generator=g), torch.randn(N_TEST, features, generator=g)
    if outputs == 1:
        y, y_test = torch.arange(N) % 2 * 2.0 - 1, torch.arange(N_TEST) % 2 * 2.0 - 1
    else:
        y, y_test = (torch.eye(outputs)[torch.arange(n) % outputs] for n in (N, N_TEST))
    return Task(X, y, X_test, y_test if targets else None)


def make_classes(classes: int = 3) -> Task:
    """The same classes as numbers, for cross-entropy."""
    hot = make_task(classes)
    assert hot.y_test is not None
    return Task(
        hot.X, hot.y.argmax(1), hot.X_test, hot.y_test.argmax(1), torch.nn.CrossEntropyLoss(), "abcdefgh"[:classes]
    )


def make_prediction(
    task: Task, terms: dict[str, torch.Tensor], seed: int, method: str = "linearized", **given
) -> Prediction:
    """A prediction whose terms add up to its test outputs."""
    eigenvalues = torch.logspace(2, -3, N * task.outputs, dtype=torch.float64)
    steps = torch.logspace(0, math.log10(STEPS), 50, dtype=torch.float64)
    values = {
        "train": task.encoded(task.y) + 1e-3,
        "test": sum(terms.values()),
        "steps": math.inf,
        "learning_rate": 0.4,
        "flow": False,
        "method": method,
        "intervals": 1 if method == "linearized" else 12 + seed,
        "error": 0.06 if method == "linearized" else 0.008,
        "target_std": 1.0,
        "terms": terms,
        "certificate": Certificate(2e-3, 1.5e-3 * (1 + seed)),
        "eigenvalues": eigenvalues,
        "max_lr": 0.9,
        "best_lr": math.nan,
        "rates": None,
        "optimizer": "SGD",
        "limit": math.inf if given.get("flow") else 0.9,
        "curve": Curve(steps, 1.1 / (1 + steps / 20) ** 2.2),
        "seconds": 0.031 if method == "linearized" else 0.12,
        "notes": ("the path ran into the limit of stability at step 120",) if method == "relinearized" else (),
    }
    return Prediction(**(values | given))


def make_entry(seed: int = 0, outputs: int = 1, task: Task | None = None, label: str | None = None) -> Entry:
    """An entry with everything: initialization differs by seed, the interpolant does not."""
    task = task or make_task(outputs)
    g = torch.Generator().manual_seed(100 + seed)
    shared = torch.Generator().manual_seed(1)

    def noise(size: float, generator: torch.Generator = g) -> torch.Tensor:
        return size * torch.randn(N_TEST, task.outputs, generator=generator)

    base = make_task(task.outputs).y_test
    terms = {
        "interpolant": 0.7 * base + noise(0.3, shared),
        "initialization": noise(0.45),
        "unconverged": noise(0.004),
    }
    linearized = make_prediction(task, terms, seed)
    extra = {"curvature": noise(0.03), "drift": noise(0.05) - 0.1 * (sum(terms.values()) - base)}
    relinearized = make_prediction(
        task, {k: v + noise(0.003) for k, v in (terms | extra).items()}, seed, "relinearized"
    )
    trained = terms | extra
    steps = torch.arange(STEPS + 1, dtype=torch.float64)
    run = Run(
        task=task,
        train=task.encoded(task.y) + 0.003 * (1 + 0.1 * seed),
        test=sum(trained.values()),
        steps=STEPS + 17 * seed,
        losses=1.2 / (1 + steps / 18) ** 2.3,
        converged=True,
        reason="the training error reached 1e-05",
        optimizer="SGD",
        learning_rate=0.4,
        until=1e-5,
        seconds=4.2 + 0.3 * seed,
        initial={},
        final={},
    )
    explanation = Explanation(trained, task, linearized, run)
    return Entry(label or f"seed {seed}", linearized, relinearized, run, explanation)


#: Choices of :func:`make_comparison`, and how far each lies from the first at every seed.
SHIFTS = {"gd": 0.0, "adam": 1.5, "batches": 0.0}


def make_comparison(trained: bool = True, seeds: int = 7, shifts: dict[str, float] | None = None) -> Comparison:
    """Choices that lie apart by a shift at every seed, beside noise of each seed; ``batches`` failed at the last seed.

    A prediction is twice as far away as what is trained, and its error differs from choice to choice and seed to seed.
    """
    task, shifts = make_task(), shifts or SHIFTS
    g = torch.Generator().manual_seed(3)
    predicted, errors, real, steps = {}, {}, {}, {}
    for k, (name, shift) in enumerate(shifts.items()):
        noise = 0.1 * torch.randn(seeds, N_TEST, 1, generator=g)
        real[name], predicted[name] = shift + noise, 2 * shift + noise
        errors[name] = 0.01 * (k + 1) + 0.001 * torch.arange(seeds, dtype=torch.float64)
        steps[name] = 100.0 * (k + 1) + torch.arange(seeds, dtype=torch.float64)
    failures = ()
    if "batches" in shifts:
        for values in (predicted, errors, real, steps):
            values["batches"][-1] = math.nan
        kinds = ("predicted", "trained") if trained else ("predicted",)
        failures = tuple(Failure("batches", seeds - 1, kind, "it diverged") for kind in kinds)
    notes, settings = ("a remark",), {"until": 1e-3, "steps": None, "tol": 0.02}
    return Comparison(task, predicted, errors, real if trained else None, steps, 0.05, 1.25, failures, notes, settings)


def make_mitigation(
    losses: dict[str, float] | None = None, *, train: bool = True, error: float = 1e-3, noise: float = 0.0
) -> Mitigation:
    """Remedies of given predicted validation losses; trained they are a tenth higher, on test points half as high.

    Args:
        losses: by method, ``as_it_is`` first.
        train: whether all are trained.
        error: of every prediction.
        noise: how much the losses of points differ, each method's in another way.
    """
    task = make_task()
    losses = {"as_it_is": 1.0, "scale_search": 0.16, "centered": 0.2} if losses is None else losses
    g = torch.Generator().manual_seed(9)
    assert task.y_test is not None
    y = task.y_test.double()

    def outcome(loss: float, way: str, steps: float) -> Outcome:
        off = 1 + noise * torch.randn(y.shape, generator=g, dtype=torch.float64)
        off = off / off.square().mean().sqrt() * math.sqrt(loss)
        known = error if way == "relinearized" else 0.0
        return Outcome(y + off, y + off * 0.5**0.5, known, 1e-5, steps, 0.1 * steps, way, True)  # type: ignore[arg-type]

    remedies = []
    for k, (name, loss) in enumerate(losses.items()):
        predicted, trained = outcome(loss, "relinearized", 100.0 + 5 * k), outcome(1.1 * loss, "trained", 100.0 + 5 * k)
        search = None
        if name == "scale_search":
            parts = (outcome(1.0, "relinearized", 100.0), predicted, outcome(0.3, "relinearized", 90.0))
            reason = "the validation loss rises."
            search = Search((1.0, 0.5, 0.25), parts, (1.0, loss, 0.3), (math.nan, 0.001, 0.9), 3, 1, reason)
        is_centered = name == "centered"
        remedies.append(
            Remedy(name, predicted, trained if train else None, 100 * is_centered, 1.0 + is_centered, search=search)
        )
    level = 0.05
    best = recommended(task, tuple(remedies), level)
    interpolant = outcome(0.15, "linearized", 0.0)
    settings = {"until": 1e-5, "train": "all" if train else "none"}
    return Mitigation(
        task, task, tuple(remedies), interpolant, best, level, 1.5, 0.1, notes=("a remark",), settings=settings
    )
