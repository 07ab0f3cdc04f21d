"""Networks of several inputs that return several outputs, and J of them by plain autograd, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

TOKENS, LENGTH = 11, 6


@dataclass
class Returned:
    """What :class:`Reader` returns."""

    logits: Tensor
    pooled: Tensor


class Reader(nn.Module):
    """A transformer of padded rows of token numbers, the mean over the tokens that the mask leaves."""

    def __init__(self, seed: int = 0, outputs: int = 2) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = nn.Embedding(TOKENS, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.out = nn.Linear(8, outputs)
        self.double().eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, unused: Tensor | None = None) -> Returned:
        hidden = self.layer(self.embedding(input_ids), src_key_padding_mask=attention_mask == 0)
        weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        return Returned(self.out(pooled), pooled)


class Pair(nn.Module):
    """Two inputs by position; outputs of two axes, in a tuple behind something else."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.left, self.right, self.out = nn.Linear(3, 32), nn.Linear(2, 32), nn.Linear(32, 6)
        self.double()

    def forward(self, a: Tensor, b: Tensor) -> tuple[str, Tensor]:
        return "pair", self.out(torch.tanh(self.left(a) * self.right(b))).unflatten(1, (2, 3))


def second(returned: tuple[str, Tensor]) -> Tensor:
    """The output of :class:`Pair`."""
    return returned[1]


def padded(n: int, seed: int = 0) -> dict[str, Tensor]:
    """Token numbers of rows of different lengths, padded with zeros at the end, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, TOKENS, (n, LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) < 3 + torch.arange(n)[:, None] % 4).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def pairs(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs of :class:`Pair`."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(n, d, generator=generator, dtype=torch.float64) for d in (3, 2))
    return a, b


def jacobian(model: nn.Module, outputs: Callable[[int], Tensor], n: int) -> Tensor:
    """J, (n, C, P), by a backward pass for each output of each row by itself.

    Args:
        model: the network.
        outputs: f of row i alone, of any shape.
        n: the number of rows.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for i in range(n):
        f = outputs(i).reshape(-1)
        grads = [torch.autograd.grad(c, parameters, retain_graph=True, materialize_grads=True) for c in f]
        rows.append(torch.stack([torch.cat([g.reshape(-1) for g in gs]) for gs in grads]))
    return torch.stack(rows).detach()


def kernel(J: Tensor, other: Tensor | None = None) -> Tensor:
    """J J(other)ᵀ, (n1, n2, C, C)."""
    return torch.einsum("icp,jdp->ijcd", J, J if other is None else other)
