"""Arguments that a model makes nothing of, and those that only seem so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whichmin.errors import ModelError
from whichmin.inputs import as_inputs
from whichmin.tangent.ignored import check_all_matter

N = 6
IDS = torch.arange(N * 3).reshape(N, 3) % 5
FLOATS = torch.linspace(-1, 1, N * 3).reshape(N, 3)


class Model(nn.Module):
    """Uses its second argument as ``use`` says; its outputs are zero at first where ``zero`` is set."""

    def __init__(self, use, zero=False):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.kinds, self.out = nn.Embedding(5, 4), nn.Embedding(1, 4), nn.Linear(4, 1)
        self.use = use
        if zero:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, ids, extra):
        hidden = self.embedding(ids)
        weights = torch.ones(ids.shape)
        if self.use == "mask":
            weights = extra.to(hidden.dtype)
        if self.use == "kinds":
            hidden = hidden + self.kinds(extra)
        if self.use == "threshold":
            weights = weights * (1.0 + (extra > 20).to(hidden.dtype))
        if self.use == "zero times":
            hidden = hidden + 0 * extra.unsqueeze(-1)
        return self.out((hidden * weights.unsqueeze(-1)).sum(1))


@pytest.mark.parametrize("zero", [False, True], ids=["", "outputs zero at first"])
@pytest.mark.parametrize(
    ("use", "extra"),
    [
        ("mask", torch.ones(N, 3, dtype=torch.long)),
        ("mask", torch.ones(N, 3, dtype=torch.bool)),
        ("mask", FLOATS),
        ("mask", (torch.arange(N) == 1).double()[:, None].expand(N, 3)),
        ("kinds", torch.zeros(N, 3, dtype=torch.long)),
        ("threshold", FLOATS),
    ],
)
def test_what_matters_is_let_pass(use, extra, zero):
    check_all_matter(Model(use, zero), as_inputs({"ids": IDS, "extra": extra}, "X"), [4, 0, 2])


@pytest.mark.parametrize("extra", [FLOATS, torch.ones(N, 3, dtype=torch.long), torch.zeros(N, 3)])
@pytest.mark.parametrize("use", ["nothing", "zero times"])
def test_what_is_ignored_is_named(use, extra):
    model = Model(use)
    for X, name in (({"ids": IDS, "extra": extra}, r"X\['extra'\]"), ((IDS, extra), r"X\[1\]")):
        with pytest.raises(
            ModelError, match=f"the outputs of Model do not change with {name}: it ignores this argument"
        ):
            check_all_matter(model, as_inputs(X, "X"), [4, 0, 2])
