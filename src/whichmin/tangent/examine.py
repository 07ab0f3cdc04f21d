"""Every check of a model on inputs that makes its tangent kernel well defined, in one call."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from whichmin.errors import ModelError
from whichmin.inputs import AnyInputs, Inputs, is_floating, tensors_of
from whichmin.tangent.captured import Captured, capture
from whichmin.tangent.checks import check_modules
from whichmin.tangent.examination import SAMPLED, Examination
from whichmin.tangent.hooks import masks_of
from whichmin.tangent.ignored import check_all_matter
from whichmin.tangent.model import finite, trainable
from whichmin.tangent.randomness import random_states
from whichmin.tangent.rows import EXACT

#: A model of no more parameters than this is tried on all of a few rows: what its calls cost is the same.
SMALL = 2**20
#: Passes in each of which a model must have drawn random numbers: those of a process belong to all of its threads.
PASSES = 3


def examine(
    model: nn.Module,
    X: AnyInputs,
    *,
    outputs: int | None = None,
    row_shape: tuple[int, ...] | None = None,
    classes: bool = False,
    whole: bool = False,
) -> Examination:
    """Check a model on inputs, by a forward pass on a few rows of them.

    Args:
        model: the network.
        X: the inputs, (n, …), at least one row.
        outputs: how many outputs a row must have; None for any number.
        row_shape: the axes of a row's targets; None for any. Where either has a single axis it is taken as flattened.
        classes: whether the last of these axes is that of the classes, which torch's losses have first.
        whole: whether the pass may be one over all rows of small inputs, whose uses of parameters are then known.

    Raises:
        ModelError: BatchNorm in training mode, active dropout or other randomness, no trainable parameters, integers
            that nothing looks up or converts, outputs that are not finite, not (n, …), or of another number or other
            axes than the targets, or of axes of which any may be the classes'; an argument that the model ignores.
    """
    check_modules(model)
    parameters = trainable(model)
    masks_of(parameters)
    generator = torch.Generator().manual_seed(len(X))
    rows = torch.randperm(len(X), generator=generator)[:SAMPLED].tolist()
    whole = whole and len(X) <= EXACT and sum(p.numel() for p in parameters.values()) <= SMALL
    sample = _captured(model, parameters, X if whole else X[rows])
    if not (is_floating(X) or sample.reads_integers):
        raise ModelError(
            f"X is {tensors_of(X)[0].dtype} and the network {type(model).__name__} neither looks integers up, as "
            "an embedding does, nor converts them: pass X.float() (and scale it, pixels by 1/255)."
        )
    finite(sample.outputs, "X")
    count = sample.outputs.shape[1]
    if outputs is not None and count != outputs:
        raise ModelError(
            f"the model has {count} output{'s' * (count != 1)} per row; expected {outputs}, one for each class, or for "
            "each number of a row's targets: change the last layer or the targets"
            + (", or pass Task(…, classes=…) with the number of all classes." if classes else ".")
        )
    if row_shape is not None and _differ(sample.row_shape, row_shape):
        raise ModelError(
            f"the model returns {sample.row_shape} for a row and its targets are {row_shape}: move the axes of one, "
            "such as y.movedim(-1, 1), or Task(…, output=lambda out: out.movedim(1, -1))."
        )
    if classes and _is_told_by_nothing(X, sample.row_shape):
        raise ModelError(
            f"the model returns {sample.row_shape} for a row, and which of these axes is the classes' cannot be told: "
            "torch's losses have them first and a Task last. Pass Task(…, output=lambda out: out.movedim(1, -1)) where "
            "they are first, or output=lambda out: out where they are last."
        )
    if isinstance(X, Inputs) and len(tensors_of(X)) > 1:
        check_all_matter(model, X, rows)
    return Examination(model, X, parameters, rows, sample, whole)


def _captured(model: nn.Module, parameters: Mapping[str, nn.Parameter], X: AnyInputs) -> Captured:
    """A forward pass in which nobody drew random numbers; other threads, such as Dask's, do so now and then.

    Raises:
        ModelError: somebody did in every pass, which is the model then.
    """
    for _ in range(PASSES):
        before = random_states(X.device)
        sample = capture(model, parameters, X)
        if random_states(X.device) == before:
            return sample
    raise ModelError(
        f"the model {type(model).__name__} draws random numbers when it is called: call model.eval(), or take the "
        "randomness (functional dropout, stochastic depth, noise) out, to get a network that is a function."
    )


def _is_told_by_nothing(X: AnyInputs, shape: tuple[int, ...]) -> bool:
    """Whether all axes of a row's outputs, those of size one aside, are of one size, and no ``output=`` was given."""
    long = [size for size in shape if size != 1]
    return len(long) > 1 and len({*long}) == 1 and not (isinstance(X, Inputs) and X.output is not None)


def _differ(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether two arrays of as many numbers have other axes, those of size one and arrays of a single axis aside."""
    a, b = (tuple(size for size in shape if size != 1) for shape in (a, b))
    return a != b and len(a) > 1 and len(b) > 1
