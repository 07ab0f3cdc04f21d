"""Real architectures at small size: is the kernel right and fast, is the prediction right, honest and no slower?

For each network, all with random weights: how far its kernel is from that of gradients taken row by row; which part of
its parameters falls back on gradients for each row; the kernel's time over that of ``torch.func`` and of a plain loop;
and for SGD at half the limit and Adam at 1e-3, in full batches and in mini-batches, how far the predicted test outputs
are from the trained ones, the estimated error (both over the standard deviation of the targets), the time over that of
training, and the way that was taken.

Usage: python benchmarks/zoo.py [--steps 100 1000] [--only NAME …] [--kernels] [--rows 32]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from _environment import store
from _networks import Adapted, routed
from torch import Tensor, nn

import whichmin as wm
from whichmin.kernels.kernel import compute_kernel


class Net(nn.Module):
    """A network from its layers and a function that runs them."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], **layers: Any) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self, x)


class Block(nn.Module):
    """A residual block with normalization."""

    def __init__(self, inside: int, outside: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.a, self.b = (
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
        )
        self.n, self.m = norm(outside), norm(outside)
        same = stride == 1 and inside == outside
        self.s = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), norm(outside))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.m(self.b(F.relu(self.n(self.a(x))))) + self.s(x))


def resnet(width: int, blocks: int, outputs: int, norm: Callable[[int], nn.Module]) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(width), nn.ReLU()]
    inside = width
    for stage in range(4):
        for k in range(blocks):
            outside = width * 2**stage
            layers.append(Block(inside, outside, 2 if stage and not k else 1, norm))
            inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, outputs))


def dense(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    layers: list[nn.Module] = []
    for m, n in pairwise(sizes):
        layers += [nn.Linear(m, n), activation()]
    return nn.Sequential(*layers[:-1])


def encoder(batch_first: bool, **settings: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=batch_first, **settings)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def gpt() -> nn.Module:
    d, depth = 32, 2
    blocks = nn.ModuleList(
        Net(
            lambda s, h: attend(s, h),
            n=nn.LayerNorm(d),
            w=nn.Parameter(torch.randn(d, 3 * d) * 0.05),
            b=nn.Parameter(torch.zeros(3 * d)),
            p=nn.Parameter(torch.randn(d, d) * 0.05),
            q=nn.Parameter(torch.zeros(d)),
            m=nn.LayerNorm(d),
            f=nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d)),
        )
        for _ in range(depth)
    )

    def attend(s: Any, h: Tensor) -> Tensor:
        n, T, d = h.shape
        q, k, v = torch.addmm(s.b, s.n(h).view(-1, d), s.w).view(n, T, 3 * d).split(d, 2)
        heads = (t.view(n, T, 4, d // 4).transpose(1, 2) for t in (q, k, v))
        a = F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).reshape(-1, d)
        h = h + torch.addmm(s.q, a, s.p).view(n, T, d)
        return h + s.f(s.m(h))

    def run(s: Any, x: Tensor) -> Tensor:
        h = s.words(x) + s.positions(torch.arange(x.shape[1]))
        for block in s.blocks:
            h = block(h)
        return s.out(s.norm(h)[:, -1])

    return Net(
        run,
        words=nn.Embedding(50, d),
        positions=nn.Embedding(12, d),
        blocks=blocks,
        norm=nn.LayerNorm(d),
        out=nn.Linear(d, 1),
    )


def vision() -> nn.Module:
    def run(s: Any, x: Tensor) -> Tensor:
        h = s.patch(x).flatten(2).transpose(1, 2)
        return s.out(s.body(torch.cat([s.token.expand(len(x), -1, -1), h], 1) + s.positions)[:, 0])

    return Net(
        run,
        patch=nn.Conv2d(3, 32, 8, 8),
        token=nn.Parameter(torch.randn(1, 1, 32)),
        positions=nn.Parameter(torch.randn(1, 17, 32) * 0.1),
        body=encoder(True, norm_first=True),
        out=nn.Linear(32, 1),
    )


def experts() -> nn.Module:
    def run(s: Any, x: Tensor) -> Tensor:
        h = s.inside(x).reshape(-1, 16)
        return s.out(routed(h, s.gate, s.experts).reshape(*x.shape[:2], 16).mean(1))

    made = nn.ModuleList(dense(16, 32, 16) for _ in range(4))
    return Net(run, inside=nn.Linear(8, 16), gate=nn.Linear(16, 4), experts=made, out=nn.Linear(16, 1))


def low_rank() -> nn.Module:
    return nn.Sequential(Adapted(20, 64), nn.GELU(), Adapted(64, 64), nn.GELU(), Adapted(64, 1))


def windows() -> nn.Module:
    def run(s: Any, x: Tensor) -> Tensor:
        h = s.patch(x).permute(0, 2, 3, 1)
        n, H, W, d = h.shape
        w = h.view(n, H // 2, 2, W // 2, 2, d).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, d)
        q, k, v = s.qkv(s.norm(w)).chunk(3, -1)
        a = ((q @ k.transpose(1, 2) / d**0.5 + s.bias).softmax(-1)) @ v
        w = w + s.scale * s.proj(a)
        return s.out((w + s.mlp(w)).view(n, -1, d).mean(1))

    return Net(
        run,
        patch=nn.Conv2d(3, 32, 4, 4),
        norm=nn.LayerNorm(32),
        qkv=nn.Linear(32, 96),
        bias=nn.Parameter(torch.zeros(4, 4)),
        proj=nn.Linear(32, 32),
        scale=nn.Parameter(torch.full((32,), 0.1)),
        mlp=dense(32, 64, 32, activation=nn.GELU),
        out=nn.Linear(32, 1),
    )


def by_cells(s: Any, x: Tensor) -> Tensor:
    h = None
    for t in range(x.shape[1]):
        h = s.cell(x[:, t], h)
    return s.out(h[0])


def own_derivative(s: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        u = s.body(z)
        (d,) = torch.autograd.grad(u.sum(), z, create_graph=True)
    return u + d.sum(1, keepdim=True)


def _normed(layer: nn.Module) -> nn.Module:
    return torch.nn.utils.parametrizations.weight_norm(layer)


def _images(n: int) -> Tensor:
    return torch.randn(n, 3, 32, 32)


def _vectors(n: int) -> Tensor:
    return torch.randn(n, 20)


def _sequences(n: int) -> Tensor:
    return torch.randn(n, 12, 8)


def _words(n: int) -> Tensor:
    return torch.randint(0, 50, (n, 12))


ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "tabular 20-128-128-1": (lambda: dense(20, 128, 128, 1), _vectors),
    "tanh 20-64-1": (lambda: dense(20, 64, 1, activation=nn.Tanh), _vectors),
    "wide 784-2048-1": (lambda: dense(784, 2048, 1), lambda n: torch.randn(n, 784)),
    "layer norm": (lambda: nn.Sequential(nn.Linear(20, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 1)), _vectors),
    "weight norm": (lambda: nn.Sequential(_normed(nn.Linear(20, 64)), nn.Tanh(), _normed(nn.Linear(64, 1))), _vectors),
    "low-rank adapters": (low_rank, _vectors),
    "derivative inside": (lambda: Net(own_derivative, body=dense(20, 32, 1, activation=nn.Tanh)), _vectors),
    "sines": (
        lambda: Net(
            lambda s, x: s.o(torch.sin(s.b(torch.sin(3 * s.a(x))))),
            a=nn.Linear(20, 64),
            b=nn.Linear(64, 64),
            o=nn.Linear(64, 1),
        ),
        _vectors,
    ),
    "conv, no norm": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(1024, 1),
        ),
        _images,
    ),
    "resnet, group norm": (lambda: resnet(8, 1, 1, lambda c: nn.GroupNorm(4, c)), _images),
    "resnet18-16, 2": (lambda: resnet(16, 2, 2, nn.BatchNorm2d), _images),
    "depthwise": (
        lambda: Net(
            lambda s, x: s.o((s.p(x) + s.g * s.m(s.d(s.p(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)).mean((2, 3))),
            p=nn.Conv2d(3, 32, 4, 4),
            d=nn.Conv2d(32, 32, 3, 1, 1, groups=32),
            m=dense(32, 64, 32, activation=nn.GELU),
            g=nn.Parameter(torch.full((32, 1, 1), 0.1)),
            o=nn.Linear(32, 1),
        ),
        _images,
    ),
    "transposed conv": (
        lambda: Net(
            lambda s, x: s.o(s.u(F.relu(s.d(x))).flatten(1)),
            d=nn.Conv2d(3, 8, 4, 4),
            u=nn.ConvTranspose2d(8, 2, 2, 2),
            o=nn.Linear(512, 1),
        ),
        _images,
    ),
    "vision transformer": (vision, _images),
    "windows": (windows, _images),
    "mixer": (
        lambda: Net(
            lambda s, x: s.o((s.a(x.transpose(1, 2)).transpose(1, 2) + s.b(x)).mean(1)),
            a=dense(12, 32, 12, activation=nn.GELU),
            b=dense(8, 32, 8, activation=nn.GELU),
            o=nn.Linear(8, 1),
        ),
        _sequences,
    ),
    "encoder": (
        lambda: Net(lambda s, x: s.o(s.e(s.i(x)).mean(1)), i=nn.Linear(8, 32), e=encoder(True), o=nn.Linear(32, 1)),
        _sequences,
    ),
    "sequence first": (
        lambda: Net(
            lambda s, x: s.o(s.e(s.i(x.transpose(0, 1))).mean(0)),
            i=nn.Linear(8, 32),
            e=encoder(False),
            o=nn.Linear(32, 1),
        ),
        _sequences,
    ),
    "gpt": (gpt, _words),
    "lstm": (
        lambda: Net(lambda s, x: s.o(s.r(x)[0][:, -1]), r=nn.LSTM(8, 32, batch_first=True), o=nn.Linear(32, 1)),
        _sequences,
    ),
    "gru, both ways": (
        lambda: Net(
            lambda s, x: s.o(s.r(x)[0].mean(1)),
            r=nn.GRU(8, 16, 2, batch_first=True, bidirectional=True),
            o=nn.Linear(32, 1),
        ),
        _sequences,
    ),
    "lstm cell": (lambda: Net(by_cells, cell=nn.LSTMCell(8, 32), out=nn.Linear(32, 1)), _sequences),
    "experts of tokens": (experts, _sequences),
    "deep sets": (lambda: Net(lambda s, x: s.o(s.a(x).sum(1)), a=dense(8, 64, 64), o=dense(64, 32, 1)), _sequences),
    "bag of words": (
        lambda: Net(lambda s, x: s.o(torch.tanh(s.e(x).mean(1))), e=nn.Embedding(50, 32), o=nn.Linear(32, 1)),
        _words,
    ),
}


def of_libraries() -> dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]]:
    """Small networks with random weights of transformers, peft and timm, as far as these are installed."""
    found: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {}
    try:
        import transformers as hf
    except ImportError:
        return found | _of_timm()
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    texts: dict[str, Any] = {
        "vocab_size": 50,
        "max_position_embeddings": 40,
        "num_labels": 1,
        "pad_token_id": None,
    } | sizes

    def logits(model: nn.Module, name: str) -> nn.Module:
        return Net(lambda s, x: s.m(**{name: x}).logits, m=model)

    def text(kind: str, **more: Any) -> Callable[[], nn.Module]:
        make, config = getattr(hf, f"{kind}ForSequenceClassification"), getattr(hf, f"{kind}Config")
        return lambda: logits(make(config(**texts | more)), "input_ids")

    def adapted() -> nn.Module:
        from peft import LoraConfig, get_peft_model

        base = hf.BertForSequenceClassification(hf.BertConfig(**texts))
        lora = LoraConfig(r=4, target_modules=["query", "value"], task_type="SEQ_CLS")
        return logits(get_peft_model(base, lora), "input_ids")

    def image(kind: str, **more: Any) -> Callable[[], nn.Module]:
        make, config = getattr(hf, f"{kind}ForImageClassification"), getattr(hf, f"{kind}Config")
        return lambda: logits(make(config(num_labels=1, **more)), "pixel_values")

    found["bert"] = (text("Bert"), _words)
    found["bert, peft"] = (adapted, _words)
    found["llama"] = (text("Llama", num_key_value_heads=2, pad_token_id=0), _words)
    found["mixtral"] = (text("Mixtral", num_key_value_heads=2, num_local_experts=4, pad_token_id=0), _words)
    found["xlnet"] = (
        lambda: logits(
            hf.XLNetForSequenceClassification(
                hf.XLNetConfig(vocab_size=50, d_model=32, n_layer=2, n_head=4, d_inner=48, num_labels=1)
            ),
            "input_ids",
        ),
        _words,
    )
    found["vit of transformers"] = (image("ViT", image_size=32, patch_size=8, **sizes), _images)
    found["swin"] = (
        image("Swin", image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 4], window_size=2),
        _images,
    )
    found["convnext"] = (image("ConvNext", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2), _images)
    return found | _of_timm()


def _of_timm() -> dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]]:
    try:
        import timm
    except ImportError:
        return {}
    flat = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
    models: dict[str, dict[str, Any]] = {
        "resnet10t": {}, "mobilenetv3_small_050": {}, "convnext_atto": {}, "beit_base_patch16_224": flat,
        "cait_xxs24_224": flat,
    }  # fmt: skip
    return {n: (partial(timm.create_model, n, num_classes=1, **more), _images) for n, more in models.items()}


def row_by_row(model: nn.Module, X: Tensor) -> Tensor:
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = []
    for i in range(len(X)):
        out = model(X[i : i + 1]).reshape(-1)
        for o in out:
            grads = torch.autograd.grad(o, parameters, retain_graph=True, allow_unused=True)
            flat = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)]
            rows.append(torch.cat([g.reshape(-1) for g in flat]))
    J = torch.stack(rows)
    return J @ J.T


def by_torch_func(model: nn.Module, X: Tensor) -> Tensor:
    values = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    def single(v: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, v, (x.unsqueeze(0),)).reshape(-1)

    J = torch.func.vmap(torch.func.jacrev(single), in_dims=(None, 0))(values, X)
    flat = torch.cat([j.flatten(2) for j in J.values()], dim=2).flatten(0, 1)
    return flat @ flat.T


def seconds(call: Callable[[], Any], least: float = 0.3) -> float:
    call()
    best, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < least:
        now = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - now)
    return best


def kernel_row(model: nn.Module, X: Tensor) -> dict[str, Any]:
    computed = compute_kernel(model, X)
    K = computed.values.transpose(1, 2).flatten(2).flatten(0, 1)
    truth = row_by_row(model, X)
    sizes = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    fallback = set(sizes) if computed.plan.method == "jacobian" else set(computed.plan.fallback)
    own = seconds(lambda: wm.tangent_kernel(model, X))
    try:
        by_func = own / seconds(lambda: by_torch_func(model, X))
    except Exception:
        by_func = float("nan")
    return {
        "kernel_off": float((K - truth).norm() / truth.norm()),
        "fallback": sum(sizes[n] for n in fallback) / sum(sizes.values()),
        "over_torch_func": by_func,
        "over_loop": own / seconds(lambda: row_by_row(model, X)),
    }


def prediction_row(model: nn.Module, task: wm.Task, recipe: wm.Recipe, steps: int) -> dict[str, Any]:
    std = float(task.y.std())
    started = time.perf_counter()
    run = wm.train(model, task, recipe, steps=steps, until=None)
    trained = time.perf_counter() - started
    started = time.perf_counter()
    predicted = wm.predict(model, task, recipe, steps=steps)
    taken = time.perf_counter() - started
    assert predicted.test is not None
    assert run.test is not None
    off = float((predicted.test - run.test).square().mean().sqrt()) / std
    return {
        "way": predicted.method,
        "off": off,
        "estimate": predicted.error / std,
        "train_seconds": trained,
        "seconds": taken,
        "allowed": (taken - 0.5) / trained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[100])
    networks = ZOO | of_libraries()
    parser.add_argument("--only", nargs="+", default=list(networks))
    parser.add_argument("--kernels", action="store_true", help="kernels only")
    parser.add_argument("--rows", type=int, default=32)
    options = parser.parse_args()
    rows = []
    print(f"{'network':22s} {'off':>8s} {'fallback':>8s} {'/func':>6s} {'/loop':>6s}")
    for name in options.only:
        torch.manual_seed(0)
        make, draw = networks[name]
        model, X, X_test = make().eval(), draw(options.rows), draw(options.rows)
        kernel = kernel_row(model, X)
        rows.append({"network": name} | kernel)
        figures = (kernel["kernel_off"], kernel["fallback"], kernel["over_torch_func"], kernel["over_loop"])
        print("{:22s} {:8.0e} {:8.0%} {:6.2f} {:6.2f}".format(name, *figures), flush=True)
        if options.kernels:
            continue
        C = model(X[:1]).shape[1]
        task = wm.Task(X, torch.randn(len(X), C).sign(), X_test)
        half = 0.5 * wm.spectrum(wm.tangent_kernel(model, X)).max_lr
        for steps in options.steps:
            for optimizer, factory in {
                "SGD": partial(torch.optim.SGD, lr=half),
                "Adam": partial(torch.optim.Adam, lr=1e-3),
            }.items():
                for size in (None, 8):
                    try:
                        found = prediction_row(model, task, wm.Recipe(factory, batch_size=size), steps)
                    except wm.errors.WhichminError as error:
                        print(f"    {optimizer} {size or 'all'}, {steps}: {type(error).__name__} {str(error)[:80]}")
                        continue
                    rows[-1][f"{optimizer} {size or 'all'} {steps}"] = found
                    print(
                        f"    {optimizer:4s} {size or 'all'!s:>3s} {steps:5d} steps  {found['way']:12s} "
                        f"off {found['off']:.1e} estimate {found['estimate']:.1e}  {found['seconds']:.2f} s, "
                        f"training {found['train_seconds']:.2f} s, beyond half a second {found['allowed']:.2f}",
                        flush=True,
                    )
    store("zoo", rows, vars(options))


if __name__ == "__main__":
    main()
