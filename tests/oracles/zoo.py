"""Networks on which every kernel method must give one answer."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whichmin.networks import CNN, MLP


class ConvNet(nn.Module):
    """Stride, padding, groups, dilation, GroupNorm and BatchNorm in eval mode."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            nn.GroupNorm(2, 4),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 6, 3, padding="same", groups=2, dilation=2, bias=False),
            nn.BatchNorm2d(6),
            nn.Tanh(),
            nn.Conv2d(6, 3, (1, 2), padding=(0, 1)),
        )
        self.head = nn.Linear(3, outputs)
        with torch.no_grad():
            self.body[4].running_mean.normal_()
            self.body[4].running_var.uniform_(0.5, 2.0)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Temporal(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.a = nn.Conv1d(3, 5, 3, padding=2, dilation=2)
        self.b = nn.Conv1d(5, outputs, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x))).sum(2)


class PreNorm(nn.Module):
    """A pre-norm residual block with learned scale and shift by plain arithmetic."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.up, self.down = nn.Linear(6, 10), nn.Linear(10, 6, bias=False)
        self.scale, self.shift = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))
        self.head = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = x + self.down(F.gelu(self.up(self.norm(x)))) * self.scale
        return self.head(h + self.shift)


class Attention(nn.Module):
    """Tokens from an embedding with positions, one attention head by hand and one of torch's, pooled."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8, padding_idx=0)
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.torch_heads = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x) + self.position
        a = F.softmax(self.q(h) @ self.k(h).transpose(1, 2), dim=-1)
        h = h + a @ self.v(h)
        h = h + self.torch_heads(h, h, h, need_weights=False)[0]
        return self.head(h.mean(1))


class TiedAutoencoder(nn.Module):
    """One matrix used three ways: as it is, transposed, and a second time."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(5, 6) / 2)
        self.b = nn.Parameter(torch.randn(5))
        self.out = nn.Parameter(torch.randn(6, outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(F.linear(x, self.W, self.b))
        h = torch.tanh(F.linear(h, self.W.t()))
        return torch.tanh(h @ self.W.T) @ self.W @ self.out


class Reused(nn.Module):
    """One layer used twice, on rows of tokens, with an in-place activation."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 6)
        self.head = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu_(self.shared(x))
        h = torch.sin(self.shared(h))
        return self.head(h.mean(1) if h.ndim == 3 else h)


class _Cube(torch.autograd.Function):
    """A custom function with no vmap rule."""

    @staticmethod
    def forward(ctx, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x**3 * w

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return 3 * x**2 * w * g, (x**3 * g).sum(0)


class Custom(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 4), nn.Linear(4, outputs)
        self.w = nn.Parameter(torch.randn(4))
        self.bilinear = nn.Bilinear(4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = _Cube.apply(torch.tanh(self.first(x)), self.w)
        return self.head(h + self.bilinear(h, h))


def _frozen(outputs: int) -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, outputs))
    model[2].weight.requires_grad_(False)
    model[0].bias.requires_grad_(False)
    return model


def _rows(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn(n, *shape)


ZOO: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], Tensor]]] = {
    "mlp": (lambda c: MLP([6, 9, 8, c]), _rows(6)),
    "mlp-bias": (lambda c: MLP([6, 9, 8, c], bias=True, activation="erf", scale=0.7), _rows(6)),
    "mlp-standard": (lambda c: MLP([6, 9, c], bias=True, parametrization="standard"), _rows(6)),
    "cnn": (lambda c: CNN((2, 4, 5), c, bias=True), _rows(2, 6, 6)),
    "convnet": (ConvNet, _rows(2, 8, 8)),
    "temporal": (Temporal, _rows(3, 9)),
    "pre-norm": (PreNorm, _rows(6)),
    "attention": (Attention, lambda n: torch.randint(0, 7, (n, 5))),
    "tied": (TiedAutoencoder, _rows(6)),
    "reused": (Reused, _rows(6)),
    "reused-tokens": (Reused, _rows(3, 6)),
    "custom": (Custom, _rows(6)),
    "frozen": (_frozen, _rows(6)),
}


def build(name: str, outputs: int, n: int, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network of the zoo and inputs for it, in float64."""
    torch.manual_seed(seed)
    make, inputs = ZOO[name]
    model = make(outputs).double()
    X = inputs(n)
    return model, X.double() if X.is_floating_point() else X


def plain_jacobian(model: nn.Module, X: Tensor) -> dict[str, Tensor]:
    """∂f_c(x_i)/∂θ row by row with plain autograd, (n, C, *shape): the oracle."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    rows = []
    for i in range(len(X)):
        out = model(X[i : i + 1]).reshape(-1)
        grads = [torch.autograd.grad(o, list(parameters.values()), retain_graph=True, allow_unused=True) for o in out]
        filled = [
            [torch.zeros_like(p) if g is None else g for g, p in zip(gs, parameters.values(), strict=True)]
            for gs in grads
        ]
        rows.append(filled)
    return {
        name: torch.stack([torch.stack([row[c][k] for c in range(len(row))]) for row in rows])
        for k, name in enumerate(parameters)
    }
