"""Which row of the inputs each position of a call belongs to, seen from what the position influences.

The gradient of Σ_i s_i f_i at a position that belongs to row i is s_i times that of f_i alone. Two backward passes, one
with all s_i = 1 and one with different marks s_i, so tell the row of every position, whatever the layout: sequences
before rows, rows folded into other axes, tokens sorted by expert, windows. A position that several rows depend on has
gradients that are no multiples of each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: Gradients are multiples of each other up to this part of their size.
TOLERANCE = 1e-3
#: Gradients below so many roundings of the largest one are rounding themselves.
ROUNDING = 64
#: So many numbers of each position are looked at.
SEEN = 4
#: Up to so many rows are marked by powers of two, which a float32 has room for.
EXACT = 32


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Where the rows are among the positions of a call.

    Attributes:
        index: the positions of each row, (n, T), numbered over the leading axes; −1 where a row has fewer.
    """

    index: Tensor

    def __call__(self, x: Tensor, axes: int, before: int = 0) -> Tensor:
        """The tensor with its positions by rows: (…, n, T, rest), or (…, n, rest) where each row has one.

        Args:
            x: the tensor.
            axes: how many axes positions run over.
            before: how many axes stand before them.
        """
        flat = x.reshape(*x.shape[:before], -1, *x.shape[before + axes :])
        index = (self.index[:, 0] if self.index.shape[1] == 1 else self.index).to(x.device)
        missing = index < 0
        out = flat.index_select(before, index.clamp(min=0).reshape(-1))
        out = out.reshape(*x.shape[:before], *index.shape, *x.shape[before + axes :])
        if bool(missing.any()):
            out = out.masked_fill(missing.reshape(*index.shape, *[1] * (out.ndim - before - index.ndim)), 0)
        return out


#: Where rows may stand: along the first axis; each with its positions side by side; or position by position.
Layout = Literal["first", "blocks", "tiles"]


def possible_layouts(shape: tuple[int, ...], axes: int, n: int) -> list[Layout]:
    """Those that fit n rows in an output of a shape whose positions run over so many leading axes."""
    layouts: list[Layout] = []
    if axes > 0 and shape[0] == n:
        layouts.append("first")
    if axes > 0 and math.prod(shape[:axes]) % n == 0:
        layouts.extend(("blocks", "tiles"))
    return layouts


def arrangement(layout: Layout, positions: int, n: int) -> Arrangement:
    """That of a layout."""
    index = torch.arange(positions)
    return Arrangement(index.view(-1, n).T if layout == "tiles" else index.view(n, -1))


def marks(n: int, like: Tensor) -> Tensor:
    """Different numbers for n rows, (n,), between 1 and 2."""
    return 1 + torch.arange(n, dtype=like.dtype, device=like.device) / max(n, 1)


def exact_marks(outputs: Tensor) -> Tensor:
    """A different power of two for each of n rows at one of its outputs, zeros at the others, (n, C).

    Powers of two multiply without rounding: with them rows are told by comparing digits.
    """
    n, C = outputs.shape
    seed, i = torch.zeros_like(outputs), torch.arange(n, device=outputs.device)
    seed[i, i % C] = (i - n // 2).to(outputs.dtype).exp2()
    return seed


def exact_layout(g: Tensor, marked: Tensor, axes: int, seed: Tensor) -> Layout | None:
    """The first layout in which the marked gradient is what marks make of those of the outputs, digit by digit.

    None where there is none: that may be rounding, of which :func:`rows_of` knows.

    Args:
        g: the gradients of the outputs at a call's output, (C, …).
        marked: that of the sum with these marks.
        axes: how many leading axes of the call's output positions run over.
        seed: the :func:`exact_marks`.
    """
    n, C = seed.shape
    marks = seed.sum(1, keepdim=True)
    for layout in possible_layouts(tuple(marked.shape), axes, n):
        shape = (-1, n, math.prod(marked.shape[axes:])) if layout == "tiles" else (1, n, marked.numel() // n)
        own = g.reshape(C, *shape)
        if C > 1:
            i = torch.arange(n, device=g.device)
            own = own[i % C, :, i].transpose(0, 1)
        if torch.equal(own.reshape(shape) * marks, marked.reshape(shape)):
            return layout
    return None


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of positions.

    Attributes:
        of: the row of each position, −1 where no row depends on it.
        are_sure: where the gradient is large enough to tell.
        n: the number of rows.
    """

    of: Tensor
    are_sure: Tensor
    n: int

    def layout(self, shape: tuple[int, ...], axes: int) -> Layout | None:
        """The first layout of a call's output that positions do not speak against; None for none."""
        for layout in possible_layouts(shape, axes, self.n):
            expected = torch.empty_like(self.of)
            index = arrangement(layout, len(self.of), self.n).index.to(self.of.device)
            expected[index] = torch.arange(self.n, device=self.of.device)[:, None].expand_as(index)
            if bool(((self.of == expected) | ~self.are_sure).all()):
                return layout
        return None

    def arrangement(self) -> Arrangement:
        """Where to find the positions of each row."""
        at = (self.of >= 0).nonzero()[:, 0]
        order = at[torch.argsort(self.of[at], stable=True)]
        rows = self.of[order]
        counts = torch.bincount(rows, minlength=self.n)
        starts = counts.cumsum(0) - counts
        index = torch.full((self.n, max(1, int(counts.max()))), -1, dtype=torch.long, device=rows.device)
        index[rows, torch.arange(len(order), device=rows.device) - starts[rows]] = order
        return Arrangement(index)


def rows_of(plain: Tensor, marked: Tensor, axes: int, n: int) -> Rows | None:
    """The row of each position over the leading axes; None where a position belongs to several.

    Args:
        plain: the gradient of Σ_i f_i at the call's output.
        marked: that of Σ_i s_i f_i, s the :func:`marks`.
        axes: how many leading axes positions run over.
        n: the number of rows.
    """
    flat = [t.reshape(math.prod(t.shape[:axes]), -1) for t in (plain, marked)]
    if flat[0].shape[1] > SEEN:  # a few random sums of the features tell as much as all of them
        generator = torch.Generator().manual_seed(0)
        few = torch.randn(flat[0].shape[1], SEEN, generator=generator, dtype=torch.float64).to(plain)
        flat = [t @ few for t in flat]
    g, h = (t.double() for t in flat)
    squares = g.square().sum(1)
    used = squares > 0
    ratio = torch.where(used, (g * h).sum(1) / torch.where(used, squares, 1.0), 1.0)
    row = ((ratio - 1) * n).round().clamp(0, n - 1)
    size, apart = squares.sqrt(), (h - (1 + row / n)[:, None] * g).square().sum(1).sqrt()
    faint = ROUNDING * torch.finfo(plain.dtype).eps * float(size.max())
    if bool((apart > TOLERANCE * size + faint).any()):
        return None
    return Rows(torch.where(used, row.long(), -1), used & (apart <= 0.2 / n * size), n)
