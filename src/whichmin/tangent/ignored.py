"""Arguments that a model takes and makes nothing of, as a misspelt mask would be."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from whichmin.errors import ModelError
from whichmin.inputs import Inputs, moved, named_tensors
from whichmin.tangent.copying import moved_copy
from whichmin.tangent.model import evaluate

#: How many rows are tried before an input is said to be ignored.
MOST = 64


def check_all_matter(model: nn.Module, X: Inputs, rows: list[int]) -> None:
    """Refuse inputs of which one has no say in the outputs.

    Its values at a few rows are replaced. Where that changes nothing it is tried again at more rows, where other inputs
    may let it pass; on a copy with other parameters, since outputs are zero where an output layer is; and with values
    of which a model may not know what to do.

    Args:
        model: the network.
        X: inputs of several tensors.
        rows: which rows are tried.

    Raises:
        ModelError: names the tensor.

    Cost: a forward pass on these rows for each tensor.
    """
    names = [label for label in named_tensors(X, "X") if not _matters(model, X, rows, label, bold=False)]
    if not names:
        return
    copy, there = moved_copy(model).cpu(), moved(X, "cpu")
    more = list(range(min(len(X), MOST)))
    for label in names:
        if not _matters(copy, there, more, label, bold=True):
            raise ModelError(
                f"the outputs of {type(model).__name__} do not change with {label}: it ignores this argument. Leave it "
                "out of X, or look how the model's forward spells it."
            )


def _matters(model: nn.Module, X: Inputs, rows: list[int], label: str, bold: bool) -> bool:
    """Whether some change of a tensor changes the outputs, or is an error, which takes a look at it as well."""
    some = X[rows]
    tensor = named_tensors(some, "X")[label]
    with torch.no_grad():
        outputs = evaluate(model, some)
        for other in _changes(tensor, named_tensors(X, "X")[label], bold):
            try:
                changed = evaluate(model, some.map(lambda t, new=other: new if t is tensor else t))
            except ModelError:
                return True
            if not torch.equal(changed, outputs):
                return True
    return False


def _changes(values: Tensor, of: Tensor, bold: bool) -> Iterator[Tensor]:
    """Other values of a tensor, those that differ.

    Args:
        values: its values at some rows.
        of: all of it.
        bold: whether values may be taken that are nowhere in it, such as a number of no token.
    """
    generator = torch.Generator().manual_seed(0)
    entries = torch.randint(of.numel(), values.shape, generator=generator).to(of.device)
    candidates = [of.reshape(-1)[entries]]
    if values.is_floating_point():
        noise = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values)
        candidates += [values + noise, values * 100 * noise, torch.zeros_like(values)]
    else:
        half = torch.arange(values.numel(), device=values.device).reshape(values.shape) % 2 == 1
        candidates += [torch.zeros_like(values), torch.where(half, torch.zeros_like(values), values)]
        if bold:
            other = (values == 0).to(values.dtype)
            candidates += [other, torch.where(half, other, values)]
    for candidate in candidates:
        if not torch.equal(candidate, values):
            yield candidate
