"""Which row each position belongs to, told by gradients of marked rows."""

import pytest
import torch

from whichmin.tangent.rows import arrangement, exact_layout, exact_marks, marks, possible_layouts, rows_of

N, T, WIDTH = 5, 4, 3


def gradients(rows, width=WIDTH, scale=None):
    """Of Σ f_i and Σ s_i f_i at positions that belong to rows, (positions, width) each."""
    torch.manual_seed(0)
    g = torch.randn(len(rows), width, dtype=torch.float64)
    if scale is not None:
        g = g * scale[:, None]
    return g, marks(N, g)[rows][:, None] * g


ORDERS = {
    "blocks": torch.arange(N).repeat_interleave(T),
    "tiles": torch.arange(N).repeat(T),
    "reversed": torch.arange(N).flip(0).repeat_interleave(T),
    "sorted by something else": torch.randperm(N * T, generator=torch.Generator().manual_seed(1)) % N,
    "of different lengths": torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4]),
}


@pytest.mark.parametrize("width", [1, WIDTH, 40])
@pytest.mark.parametrize("name", list(ORDERS))
def test_every_order(name, width):
    rows = ORDERS[name]
    found = rows_of(*gradients(rows, width), 1, N)
    assert torch.equal(found.of, rows)
    assert bool(found.are_sure.all())
    index = found.arrangement().index
    for i in range(N):
        assert index[i][index[i] >= 0].tolist() == (rows == i).nonzero()[:, 0].tolist()
    assert found.layout((len(rows),), 1) == (name if name in ("blocks", "tiles") else None)


def test_positions_without_a_gradient_belong_to_nobody():
    rows = ORDERS["blocks"]
    scale = torch.ones(len(rows), dtype=torch.float64)
    scale[[1, 7]] = 0.0
    found = rows_of(*gradients(rows, scale=scale), 1, N)
    assert found.of[[1, 7]].tolist() == [-1, -1]
    assert found.layout((len(rows),), 1) == "blocks", "they speak against nothing"
    assert (found.arrangement().index >= 0).sum(1).tolist() == [3, 3, 4, 4, 4]


def test_a_position_of_several_rows_is_found():
    g, h = gradients(ORDERS["blocks"])
    other, marked = gradients(ORDERS["tiles"])
    g[3], h[3] = g[3] + other[0], h[3] + marked[0] * 1.0
    g[3] += torch.tensor([0.3, -0.2, 0.9])
    h[3] += 1.8 * torch.tensor([0.3, -0.2, 0.9])
    assert rows_of(g, h, 1, N) is None


def test_rounding_of_faint_gradients_is_no_mixture():
    scale = torch.ones(N * T, dtype=torch.float64)
    scale[5] = 1e-9
    g, h = (t.float() for t in gradients(ORDERS["blocks"], scale=scale))
    h[5] += 1e-8
    found = rows_of(g, h, 1, N)
    assert not bool(found.are_sure[5])
    assert found.layout((N * T,), 1) == "blocks"


def test_axes_are_flattened():
    g, h = gradients(ORDERS["tiles"])
    found = rows_of(g.view(T, N, WIDTH), h.view(T, N, WIDTH), 2, N)
    assert found.layout((T, N, WIDTH), 2) == "tiles"
    g, h = gradients(ORDERS["blocks"])
    found = rows_of(g.view(N, T, WIDTH), h.view(N, T, WIDTH), 2, N)
    assert found.layout((N, T, WIDTH), 2) == "first"


def test_layouts_that_fit():
    assert possible_layouts((N, T, 2), 2, N) == ["first", "blocks", "tiles"]
    assert possible_layouts((T, N, 2), 2, N) == ["blocks", "tiles"]
    assert possible_layouts((7, 2), 1, N) == []
    assert possible_layouts((N, 2), 0, N) == []


@pytest.mark.parametrize("layout", ["blocks", "tiles"])
def test_rearranging(layout):
    rows = ORDERS[layout]
    x = rows[:, None].double().expand(-1, 2)
    made = arrangement(layout, len(rows), N)(x, 1)
    assert torch.equal(made, torch.arange(N).double()[:, None, None].expand(N, T, 2))


def test_rows_with_fewer_positions_are_filled_with_zeros():
    rows = ORDERS["of different lengths"]
    found = rows_of(*gradients(rows), 1, N)
    x = 1 + rows.double()[None, :, None].expand(2, -1, 3)
    made = found.arrangement()(x, 1, before=1)
    assert made.shape == (2, N, 4, 3)
    assert made.sum((2, 3))[0].tolist() == [9.0, 6.0, 18.0, 12.0, 60.0]


def marked_exactly(rows, outputs, n=N):
    """The gradients of all outputs at positions that belong to rows, and that of the sum with exact marks."""
    torch.manual_seed(0)
    g, seed = torch.randn(outputs, len(rows), WIDTH), exact_marks(torch.zeros(n, outputs))
    return g, torch.einsum("pc,cpw->pw", seed[rows], g), seed


@pytest.mark.parametrize("outputs", [1, 3, 7])
@pytest.mark.parametrize("name", list(ORDERS))
def test_exact_marks_tell_layouts_and_nothing_else(name, outputs):
    g, h, seed = marked_exactly(ORDERS[name], outputs)
    assert int((seed != 0).sum()) == len(seed.sum(1).unique()) == N
    assert exact_layout(g, h, 1, seed) == (name if name in ("blocks", "tiles") else None)
    h[2, 1] = torch.nextafter(h[2, 1], torch.tensor(9.0))
    assert exact_layout(g, h, 1, seed) is None


def test_exact_marks_of_rows_that_come_first():
    g, h, seed = marked_exactly(torch.arange(32), 2, 32)
    assert exact_layout(g, h, 1, seed) == "first"
    assert exact_layout(g, h.flip(0), 1, seed) is None
