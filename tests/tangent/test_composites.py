"""Products of several matrices, written out as products with one: the same numbers, and no fallback."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from oracles.features import gram
from oracles.zoo import plain_jacobian
from whichmin.kernels.kernel import compute_kernel
from whichmin.tangent.composites.products import CALLS

SIZES = {"b": 5, "t": 3, "h": 4, "i": 6, "j": 7, "e": 2}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["input first", "weight first"])
@pytest.mark.parametrize(
    ("input", "weight", "kept"),
    [
        ("bi", "ij", "bj"),
        ("bi", "ji", "jb"),
        ("bti", "ijh", "bthj"),
        ("bti", "hij", "bjth"),
        ("bthi", "hij", "bthj"),
        ("bhi", "hij", "hbj"),
        ("bi", "eij", "bej"),
        ("bi", "eij", "bj"),
        ("bti", "ij", "bj"),
        ("btij", "jih", "bth"),
        ("bi", "i", "b"),
    ],
)
def test_sums_of_products(input, weight, kept, order):
    torch.manual_seed(0)
    terms = (input, weight)
    x = torch.randn([SIZES[i] for i in input], dtype=torch.float64)
    w = torch.randn([SIZES[i] for i in weight], dtype=torch.float64, requires_grad=True)
    equation = f"{terms[order[0]]}, {terms[order[1]]} -> {kept}"
    operands = [(x, w)[k] for k in order]
    out = CALLS[torch.einsum](equation, *operands)
    assert out is not NotImplemented
    torch.testing.assert_close(out, torch.einsum(equation, *operands), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(CALLS[torch.einsum](equation, operands), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("bi,ij", [(5, 6), (6, 7)]),
        ("...i,ij->...j", [(5, 6), (6, 7)]),
        ("bii,ij->bj", [(5, 6, 6), (6, 7)]),
        ("bi,ij,jh->bh", [(5, 6), (6, 7), (7, 4)]),
        ("bi,ij->bj", [(5, 1), (6, 7)]),
        ("b,j->bj", [(5,), (7,)]),
        ("bi,bi->bi", [(5, 6), (5, 6)]),
        ("bhqd,bhkd->bhqk", [(5, 2, 3, 4), (5, 2, 3, 4)]),
    ],
)
def test_others_are_left_to_torch(equation, shapes):
    operands = [torch.randn(shape) for shape in shapes]
    assert CALLS[torch.einsum](equation, *operands) is NotImplemented


@pytest.mark.parametrize("call", [torch.bmm, torch.matmul])
def test_products_without_a_weight_are_left_to_torch(call):
    x, y = torch.randn(3, 4, 5), torch.randn(3, 5, 2)
    assert CALLS[call](x, y) is NotImplemented
    assert CALLS[call](x, y.requires_grad_(), out=torch.empty(3, 4, 2)) is NotImplemented
    torch.testing.assert_close(CALLS[call](x, y), call(x, y))


class Experts(nn.Module):
    """Rows sorted by their expert, each multiplied by the expert's matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.out = nn.Linear(8, 4), nn.Linear(8, 2)
        self.weight = nn.Parameter(torch.randn(4, 8, 8) / 3)

    def forward(self, x):
        gates = self.router(x).softmax(1)
        of = gates.argmax(1)
        order = of.argsort(stable=True)
        ends = torch.bincount(of, minlength=4).cumsum(0).int()
        y = F.grouped_mm(x[order], self.weight.transpose(1, 2), offs=ends)
        return self.out(torch.tanh(y[order.argsort()] * gates.gather(1, of[:, None])))


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped_mm")
@pytest.mark.parametrize("n", [1, 12, 40])
def test_grouped_products(n):
    torch.manual_seed(0)
    model, X = Experts(), torch.randn(n, 8)
    computed = compute_kernel(model, X)
    assert computed.plan.fallback == ()
    J = {name: j.double() for name, j in plain_jacobian(model, X).items()}
    K = gram(J, J)
    torch.testing.assert_close(computed.values.double(), K, rtol=0, atol=1e-5 * float(K.abs().max()))
