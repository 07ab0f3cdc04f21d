"""Measurements of single figures: lemmas, limits, and what grids of minimizers do not say."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp

from whichmin.data.load import load
from whichmin.dynamics.predict import predict
from whichmin.kernels.kernel import tangent_kernel
from whichmin.minimizers import minimum_complexity, minimum_norm_interpolator
from whichmin.mitigation.scale_search import ScaleSearch
from whichmin.mitigation.validation import split
from whichmin.mitigation.work import Aim, Work
from whichmin.networks import MLP, ResNet
from whichmin.optimizers import Preconditioned
from whichmin.papers.measure import gradient_descent, network_of, task_of, trained_measured
from whichmin.recipe.recipe import Recipe
from whichmin.studies.experiment.build import build_optimizer
from whichmin.studies.experiment.optimizers import named_optimizers
from whichmin.studies.sweeping.run import Measured
from whichmin.task import Task
from whichmin.training.train import train

#: The share of the training points that validates, the level of its tests, and the tolerance of predictions there.
HELD_OUT, LEVEL, TOL = 0.2, 0.05, 0.02


def validation_curve(
    *, kind: str, data: str, n_train: int, n_test: int, width: int, seed: int, shrink: float
) -> Measured:
    """The search for a smaller scale by validation points, predicted.

    Numbers: ``standard`` and ``mitigated``, the test errors at scale 1 and at the scale that is chosen, ``chosen``.
    Arrays: ``search_scales``, ``search_losses``, the validation errors along the search.
    """
    task = task_of(data, n_train, n_test)
    model = network_of(task, width, 1, 1.0, seed)
    work = Work(model, split(task, HELD_OUT, seed), Recipe(gradient_descent(1.0)), Aim(1e-3, None, TOL, LEVEL))
    remedy = ScaleSearch(shrink=shrink).predict(work)
    search, standard = remedy.search, work.prediction.test
    assert search is not None
    assert standard is not None
    chosen = search.outcomes[search.scales.index(search.scale)]
    assert chosen.test is not None
    losses = {"standard": search.outcomes[0].test, "mitigated": chosen.test}
    numbers: dict[str, Any] = {name: task.test_loss(f.double()) for name, f in losses.items() if f is not None}
    arrays = {"search_scales": search.scales, "search_losses": search.losses}
    return Measured(
        numbers | {"chosen": search.scale, "seconds": work.prediction.seconds},
        {name: torch.tensor(values, dtype=torch.float64) for name, values in arrays.items()},
    )


@lru_cache(maxsize=4)
def _photographs(data: str, n_train: int, n_test: int) -> Task:
    return load(data, classes=(0, 1), n_train=n_train, n_test=n_test, flat=False, loss=nn.CrossEntropyLoss())


def residual_network(
    *,
    kind: str,
    data: str,
    n_train: int,
    n_test: int,
    width: int,
    seed: int,
    optimizer: str,
    steps: int,
    device: str = "cpu",
) -> Measured:
    """A residual network trained with cross-entropy for so many steps; as :func:`whichmin.papers.measure.minimizer`."""
    task = _photographs(data, n_train, n_test).to(device)
    (named,) = named_optimizers(optimizer, None)
    model = ResNet(task.X.shape[1], 2, width, (1, 1, 1, 1), seed=seed).to(device)  # type: ignore[union-attr]
    run = train(model, task, build_optimizer(named), until=None, steps=steps)
    return trained_measured(run, task)


def two_metrics(*, seed: int, points: int) -> Measured:
    """How far apart the linearized minimizers of two metrics are, over the standard deviation of the targets."""
    generator = torch.Generator().manual_seed(seed)
    X, X_test = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (points, 50))
    model = MLP((3, 16, 1), seed=seed, dtype=torch.float64)
    task = Task(X, X.sin().sum(1), X_test, X_test.sin().sum(1))
    rules = (gradient_descent("best"), partial(Preconditioned, lr="best", metric=_random_metric))  # type: ignore[arg-type]
    ends = [predict(model, task, rule, relinearize="never") for rule in rules]
    one, other = (end.test for end in ends)
    assert one is not None
    assert other is not None
    distance = float((one - other).square().mean().sqrt() / task.y.std())
    return Measured({"distance": distance, "seconds": sum(end.seconds for end in ends)}, {})


def _random_metric(p: Tensor) -> Tensor:
    """Numbers between 0.1 and 1.1, the same for parameters of the same shape."""
    generator = torch.Generator().manual_seed(p.numel())
    return (torch.rand(p.shape, generator=generator, dtype=torch.float64) + 0.1).to(p)


def lemmas(*, data: str, n_train: int, n_test: int, width: int, seed: int, depth: int, bias: bool) -> Measured:
    """Lemmas 3 and 4, in numbers.

    Numbers: ``homogeneity``, how far J(x)θ₀ is from L f₀(x), relative to f₀ (root mean squares over test points), and
    ``interpolators``, how far the interpolators of smallest norm of parameters and of kernel are apart.
    """
    task = task_of(data, n_train // 2, n_test // 2, "float64")
    model = network_of(task, width, depth, 1.0, seed, bias=bias, dtype=torch.float64)
    theta = {name: p.detach() for name, p in model.named_parameters()}
    X, X_test = _tensors(task)

    def outputs(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(model, parameters, (x,))

    f0, along = jvp(lambda parameters: outputs(parameters, X_test), (theta,), (theta,))[:2]
    homogeneity = float((along - (depth + 1) * f0).square().mean().sqrt() / f0.square().mean().sqrt())
    J, J_test = (_jacobian(outputs, theta, x) for x in (X, X_test))
    by_parameters = minimum_norm_interpolator(J, J_test, task.y)
    by_kernel = minimum_complexity(tangent_kernel(model, X), tangent_kernel(model, X_test, X), task.y)
    apart = float((by_parameters - by_kernel).square().mean().sqrt() / task.y.std())
    return Measured({"homogeneity": homogeneity, "interpolators": apart}, {})


def _tensors(task: Task) -> tuple[Tensor, Tensor]:
    assert isinstance(task.X, Tensor)
    assert isinstance(task.X_test, Tensor)
    return task.X, task.X_test


def _jacobian(outputs: Any, theta: dict[str, Tensor], x: Tensor) -> Tensor:
    """(n, P) of a single output."""
    parts = jacrev(outputs, chunk_size=16)(theta, x)
    return torch.cat([part.reshape(len(x), -1) for part in parts.values()], 1)


def linearization_error(
    *, data: str, n_train: int, n_test: int, width: int, seed: int, optimizer: str, steps: int
) -> Measured:
    """How far the trained network's test outputs are from its linearization's after as many steps: ``error``."""
    task = task_of(data, n_train, n_test)
    model = network_of(task, width, 1, 1.0, seed)
    (named,) = named_optimizers(optimizer, None)
    factory = build_optimizer(named)
    run = train(model, task, factory, until=None, steps=steps)
    linear = predict(model, task, factory, steps=steps, relinearize="never")
    assert run.test is not None
    assert linear.test is not None
    error = float((run.test.double() - linear.test.double()).square().mean().sqrt())
    return Measured({"error": error, "seconds": run.seconds + linear.seconds}, {})
