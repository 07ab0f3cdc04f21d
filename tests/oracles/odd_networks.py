"""Small networks of the kinds that people bring and that are easily got wrong, in float64, with inputs for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Odd(nn.Module):
    """A network from a function that makes its layers and one that runs them."""

    def __init__(self, layers: Callable[[], dict[str, Any]], run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        for name, layer in layers().items():
            setattr(self, name, layer)
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


@dataclass(frozen=True)
class Kind:
    """One kind.

    Attributes:
        layers: makes the layers.
        run: forward.
        inputs: rows of so many.
        fallback: the parameters that may need gradients of their own.
    """

    layers: Callable[[], dict[str, Any]]
    run: Callable[[Any, Tensor], Tensor]
    inputs: Callable[[int], Tensor]
    fallback: frozenset[str] = field(default_factory=frozenset)

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return Odd(self.layers, self.run).double().eval()

    def rows(self, n: int, seed: int = 0) -> Tensor:
        torch.manual_seed(1 + seed)
        x = self.inputs(n)
        return x.double() if x.is_floating_point() else x


def _vectors(n: int) -> Tensor:
    return torch.randn(n, 4)


def _sequences(n: int) -> Tensor:
    return torch.randn(n, 6, 3)


def _tokens(n: int) -> Tensor:
    return torch.randint(0, 11, (n, 6))


def _two() -> dict[str, Any]:
    return {"a": nn.Linear(4, 8), "o": nn.Linear(8, 1)}


def _shifted() -> dict[str, Any]:
    return {"n": nn.Linear(4, 3), "b": nn.Parameter(torch.randn(1))}


def _shift_a_view(s: Any, x: Tensor) -> Tensor:
    out = s.n(x)
    out[:, :1].add_(s.b)
    return out


def _shift_a_column(s: Any, x: Tensor) -> Tensor:
    out = s.n(x)
    out[:, 0] += s.b
    return out


def _own_derivative(s: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        u = s.o(torch.tanh(s.a(z)))
        (d,) = torch.autograd.grad(u.sum(), z, create_graph=True)
        (e,) = torch.autograd.grad(d.sum(), z, create_graph=True)
    return e.sum(1, keepdim=True) + u


def _with_ends(n: int) -> Tensor:
    x = torch.rand(n, 4)
    x[0, 0], x[-1, 0] = 0.0, 1.0
    return x


def _gate(s: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        w = torch.sigmoid(s.a(x))
    return s.o(torch.tanh(s.a(x)) * w)


def _encoder(batch_first: bool) -> Callable[[], dict[str, Any]]:
    return lambda: {
        "i": nn.Linear(3, 8),
        "e": nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=batch_first),
        "o": nn.Linear(8, 2),
    }


def _recurrent(kind: type[nn.Module], **settings: Any) -> Callable[[], dict[str, Any]]:
    width = 5 * (2 if settings.get("bidirectional") else 1)
    return lambda: {"r": kind(3, 5, **settings), "o": nn.Linear(width, 2)}


def _by_cells(s: Any, x: Tensor) -> Tensor:
    h = None
    for t in range(x.shape[1]):
        h = s.c(x[:, t], h)
    return s.o(h[0] if isinstance(h, tuple) else h)


def _experts() -> dict[str, Any]:
    experts = [nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)) for _ in range(3)]
    return {"g": nn.Linear(4, 3), "e": nn.ModuleList(experts), "o": nn.Linear(4, 1)}


def _routed(s: Any, x: Tensor) -> Tensor:
    h = x.reshape(-1, 4)
    p = s.g(h).softmax(-1)
    chosen, out = p.argmax(-1), torch.zeros_like(h)
    for e in range(3):
        i = (chosen == e).nonzero()[:, 0]
        if len(i):
            out[i] = s.e[e](h[i]) * p[i, e : e + 1]
    return s.o(out.reshape(x.shape).mean(1))


def _patches() -> dict[str, Any]:
    return {
        "p": nn.Conv2d(1, 8, 4, 4),
        "token": nn.Parameter(torch.randn(1, 1, 8)),
        "positions": nn.Parameter(torch.randn(1, 5, 8)),
        "e": nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True),
        "scale": nn.Parameter(torch.ones(8)),
        "o": nn.Linear(8, 2),
    }


def _vision(s: Any, x: Tensor) -> Tensor:
    h = s.p(x).flatten(2).transpose(1, 2)
    h = torch.cat([s.token.expand(len(x), -1, -1), h], 1) + s.positions
    return s.o((h + s.scale * s.e(h))[:, 0])


def _language() -> dict[str, Any]:
    return {
        "w": nn.Embedding(11, 8),
        "p": nn.Embedding(6, 8),
        "qkv": nn.Parameter(torch.randn(8, 24)),
        "b": nn.Parameter(torch.randn(24)),
        "o": nn.Linear(8, 1),
    }


def _causal(s: Any, x: Tensor) -> Tensor:
    h = s.w(x) + s.p(torch.arange(x.shape[1]))
    n, T, d = h.shape
    q, k, v = torch.addmm(s.b, h.view(-1, d), s.qkv).view(n, T, 3 * d).split(d, 2)
    return s.o((h + F.scaled_dot_product_attention(q, k, v, is_causal=True))[:, -1])


def _windows(s: Any, x: Tensor) -> Tensor:
    n = len(x)
    w = x.view(n, 2, 2, 2, 2, 4).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 4)
    q, k, v = s.a(w).chunk(3, -1)
    return s.o((((q @ k.transpose(1, 2) + s.t).softmax(-1)) @ v).view(n, -1, 4).mean(1))


def _normalized() -> dict[str, Any]:
    parametrized = torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 8))
    return {"a": parametrized, "o": nn.Linear(8, 2)}


def _dense(s: Any, x: Tensor) -> Tensor:
    return s.o(torch.tanh(s.a(x)))


def _standardized(s: Any, x: Tensor) -> Tensor:
    """A weight over its own size, and one that is normalized: both depend on it twice."""
    w = F.batch_norm(s.w.reshape(1, 6, -1), None, None, weight=s.g, training=True).reshape_as(s.w)
    return s.o(torch.tanh(F.linear(x, w) + F.linear(x, s.w / (1 + s.w.norm()))))


def _stacked() -> dict[str, Any]:
    return {"w": nn.Parameter(torch.randn(3, 4, 5)), "o": nn.Linear(5, 2)}


def _experts_by_entry(s: Any, x: Tensor) -> Tensor:
    """Each row by the weight of its own expert, and by the first one of all."""
    gates = s.r(x).softmax(1)
    of = gates.argmax(1)
    order = of.argsort(stable=True)
    ends = torch.bincount(of, minlength=3).cumsum(0).tolist()
    parts = [x[order[lo:hi]] @ s.w[e] for e, (lo, hi) in enumerate(zip([0, *ends[:-1]], ends, strict=True))]
    out = torch.cat(parts)[order.argsort()] * gates.gather(1, of[:, None])
    return s.o(torch.tanh(out + F.linear(x, s.w[torch.tensor(0)].T)))


KINDS: dict[str, Kind] = {
    "sequence first": Kind(_encoder(False), lambda s, x: s.o(s.e(s.i(x.permute(1, 0, 2))).mean(0)), _sequences),
    "encoder": Kind(_encoder(True), lambda s, x: s.o(s.e(s.i(x)).mean(1)), _sequences),
    "rows reversed inside": Kind(_two, lambda s, x: s.o(torch.tanh(s.a(x.flip(0)))).flip(0), _vectors),
    "shift of a view": Kind(_shifted, _shift_a_view, _vectors, frozenset({"b"})),
    "shift of a column": Kind(_shifted, _shift_a_column, _vectors, frozenset({"b"})),
    "its own derivative": Kind(_two, _own_derivative, _vectors, frozenset({"a.weight", "o.weight"})),
    "zero at both ends": Kind(
        _two,
        lambda s, x: _own_derivative(s, x) * x[:, :1] * (1 - x[:, :1]),
        _with_ends,
        frozenset({"a.weight", "o.weight"}),
    ),
    "gate without a graph": Kind(_two, _gate, _vectors),
    "writes into its input": Kind(_two, lambda s, x: s.o(torch.tanh(s.a(x.div_(2)))), _vectors),
    "real gain of a spectrum": Kind(
        lambda: _two() | {"w": nn.Parameter(torch.randn(5))},
        lambda s, x: torch.fft.irfft(torch.fft.rfft(s.a(x)) * s.w)[:, :2] + s.o(s.a(x)),
        _vectors,
        frozenset({"w"}),
    ),
    "a vector as a weight": Kind(
        _two, lambda s, x: F.linear(torch.tanh(s.a(x)), s.o.weight[0]), _vectors, frozenset({"o.weight"})
    ),
    "lstm": Kind(
        _recurrent(nn.LSTM, num_layers=2, batch_first=True, bidirectional=True),
        lambda s, x: s.o(s.r(x)[0][:, -1]),
        _sequences,
    ),
    "gru": Kind(_recurrent(nn.GRU, batch_first=True), lambda s, x: s.o(s.r(x)[1][0]), _sequences),
    "rnn": Kind(_recurrent(nn.RNN, bias=False), lambda s, x: s.o(s.r(x.transpose(0, 1))[0][-1]), _sequences),
    "lstm cell": Kind(lambda: {"c": nn.LSTMCell(3, 5), "o": nn.Linear(5, 2)}, _by_cells, _sequences),
    "gru cell": Kind(lambda: {"c": nn.GRUCell(3, 5), "o": nn.Linear(5, 2)}, _by_cells, _sequences),
    "experts of tokens": Kind(_experts, _routed, lambda n: torch.randn(n, 5, 4)),
    "vision transformer": Kind(_patches, _vision, lambda n: torch.randn(n, 1, 8, 8)),
    "language model": Kind(_language, _causal, _tokens, frozenset({"p.weight"})),
    "windows": Kind(
        lambda: {"a": nn.Linear(4, 12), "t": nn.Parameter(torch.randn(4, 4)), "o": nn.Linear(4, 1)},
        _windows,
        lambda n: torch.randn(n, 4, 4, 4),
    ),
    "normalized weight": Kind(_normalized, _dense, _vectors),
    "transposed convolution": Kind(
        lambda: {"c": nn.ConvTranspose2d(2, 3, 3, stride=2, output_padding=1), "o": nn.Linear(300, 1)},
        lambda s, x: s.o(torch.relu(s.c(x)).flatten(1)),
        lambda n: torch.randn(n, 2, 4, 4),
    ),
    "bag of embeddings": Kind(
        lambda: {"e": nn.EmbeddingBag(11, 3)}, lambda s, x: s.e(x), _tokens, frozenset({"e.weight"})
    ),
    "distances": Kind(
        lambda: {"c": nn.Parameter(torch.randn(5, 4)), "o": nn.Linear(5, 2)},
        lambda s, x: s.o(torch.cdist(x, s.c)),
        _vectors,
        frozenset({"c", "o.weight", "o.bias"}),
    ),
    "standardized weights": Kind(
        lambda: {"w": nn.Parameter(torch.randn(6, 4)), "g": nn.Parameter(torch.rand(6)), "o": nn.Linear(6, 2)},
        _standardized,
        _vectors,
    ),
    "experts of one tensor": Kind(lambda: _stacked() | {"r": nn.Linear(4, 3)}, _experts_by_entry, _vectors),
    "experts transposed, then taken": Kind(
        _stacked,
        lambda s, x: s.o(torch.tanh(sum(x @ w for w in s.w.transpose(1, 2).transpose(-1, -2).unbind(0)))),
        _vectors,
    ),
    "matrices of one tensor at once": Kind(
        _stacked, lambda s, x: s.o(torch.tanh(torch.bmm(x.expand(3, *x.shape), s.w)).sum(0)), _vectors
    ),
    "heads by einsum": Kind(
        lambda: _stacked() | {"v": nn.Parameter(torch.randn(3, 5, 4)), "p": nn.Linear(12, 2)},
        lambda s, x: (
            s.p(torch.einsum("eij,bei->bej", s.v, torch.tanh(torch.einsum("bi,eij->bej", x, s.w))).flatten(1))
            + s.o(torch.einsum("bi,eij->bj", x, s.w))
        ),
        _vectors,
    ),
    "windows of exchanged axes": Kind(
        lambda: {"w": nn.Parameter(torch.randn(2, 2, 3)), "o": nn.Linear(6, 2)},
        lambda s, x: s.o(torch.tanh(F.conv1d(x.transpose(1, 2), s.w.transpose(1, 2))).flatten(1)),
        lambda n: torch.randn(n, 4, 3),
    ),
    "outputs of single precision": Kind(_two, lambda s, x: _dense(s, x).float(), _vectors),
}


class Gated(nn.Module):
    """A dense layer, and beside it another network times a gate, as adapters and residual branches begin."""

    def __init__(self, inner: nn.Module, sample: Tensor, gate: float = 0.0) -> None:
        super().__init__()
        outputs = inner(sample.clone()).flatten(1).shape[1]
        torch.manual_seed(3)
        self.inner, self.dense = inner, nn.Linear(sample[0].numel(), outputs).double()
        self.gate = nn.Parameter(torch.full((outputs,), gate, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x.flatten(1).double()) + self.gate * self.inner(x).flatten(1)
