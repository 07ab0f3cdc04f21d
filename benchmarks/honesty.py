"""Is the error estimate honest? Two hundred varied problems: the estimated against the true distance to training.

Network (dense, convolutional with and without normalization, attention, recurrent, low-rank adapters, mixture of
experts), its width and activation, data, N, outputs, optimizer (gradient descent, momentum, Nesterov, AdaGrad, RMSprop,
Adam with usual and odd betas, a sign rule), batches, learning rate from a tenth of the limit to beyond it, goal, type
and seed are drawn at random. Each is trained, and predicted three ways: ``auto``, ``path`` (which never trains) and
``never`` (one linearization). Distances are root mean squares over test points, over the targets' standard deviation.

With ``--losses`` each problem has a loss of its own, too: cross-entropy with and without label smoothing, binary
cross-entropy, Huber's and the smooth absolute value; distances are over the standard deviation of the trained outputs.

Needs WHICHMIN_DATA. Usage: python benchmarks/honesty.py [--problems 200] [--first 0] [--ways auto path never]
[--losses]

Rates: of rules with a limit of stability, a drawn part of it; of adaptive rules, the rate at which a step of all
parameters moves an output by 4 % of the targets' spread (AdaGrad, whose steps shorten: 40 %), times that part.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from _environment import store
from _networks import Adapted, routed
from torch import Tensor, nn

import whichmin as wm

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}
BETAS = [(0.9, 0.999), (0.9, 0.999), (0.9, 0.99), (0.0, 0.99), (0.0, 0.999), (0.5, 0.9), (0.95, 0.95)]
#: Seconds that a forced path may take.
BUDGET = 20.0
#: Distances below this part of the targets' standard deviation are rounding, and count as this.
FLOOR = 1e-6
#: An estimate is honest where the true distance is at most this many times as large.
HONEST = 4.0
#: Without a note the true distance may never be this many times as large.
NEVER = 10.0


class SignDescent(torch.optim.Optimizer):
    """θ ← θ − lr·sign(gradient)."""

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad.sign(), alpha=group["lr"])


class Tokens(nn.Module):
    """Rows of a picture as tokens, a body, the mean over tokens, and a linear layer."""

    def __init__(self, body: nn.Module, size: int, width: int, outputs: int) -> None:
        super().__init__()
        self.embed, self.body, self.out = nn.Linear(size, width), body, nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(self.embed(x.flatten(1).view(len(x), -1, self.embed.in_features)))
        return self.out((h[0] if isinstance(h, tuple) else h).mean(1))


class Attention(nn.Module):
    """Self-attention written with the fused call, and a residual perceptron."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), activation(), nn.Linear(2 * width, width))

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in self.qkv(self.norm(h)).chunk(3, -1))
        h = h + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return h + self.mlp(h)


class Experts(nn.Module):
    """Each token goes through the expert that a gate prefers."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.gate = nn.Linear(width, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), activation(), nn.Linear(2 * width, width)) for _ in range(4)
        )

    def forward(self, h: Tensor) -> Tensor:
        return routed(h.flatten(0, 1), self.gate, self.experts).view_as(h)


def build(p: dict[str, Any], sample: Tensor, outputs: int) -> nn.Module:
    torch.manual_seed(p["seed"])
    width, activation, channels = p["width"], ACTIVATIONS[p["activation"]], len(sample)
    token, size = sample.numel() // sample.shape[1], sample.numel()
    match p["kind"]:
        case "dense":
            hidden = [width] * p["depth"]
            if p["activation"] in ("relu", "gelu"):
                kw = {"scale": p["scale"], "parametrization": p["parametrization"], "seed": p["seed"]}
                return wm.networks.MLP([size, *hidden, outputs], activation=p["activation"], bias=p["bias"], **kw)
            sizes = [size, *hidden]
            layers = [layer for m, n in zip(sizes, hidden, strict=False) for layer in (nn.Linear(m, n), activation())]
            return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], outputs))
        case "conv" | "conv with normalization":
            norm = (lambda c: nn.GroupNorm(4, c)) if p["kind"] != "conv" else (lambda c: nn.Identity())
            layers, inside = [], channels
            for _ in range(p["depth"] + 1):
                layers += [nn.Conv2d(inside, width, 3, 2, 1), norm(width), activation()]
                inside = width
            return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * width, outputs))
        case "attention":
            return Tokens(
                nn.Sequential(*(Attention(width, activation) for _ in range(p["depth"]))), token, width, outputs
            )
        case "recurrent":
            return Tokens(p["cell"](token, width, p["depth"]), token, width, outputs)
        case "experts":
            return Tokens(Experts(width, activation), token, width, outputs)
    return nn.Sequential(
        nn.Flatten(), Adapted(size, width), activation(), Adapted(width, width), activation(), Adapted(width, outputs)
    )


def draw(number: int) -> dict[str, Any]:
    """The problem of that number."""
    r = random.Random(1000 + number)
    kinds = [
        "dense",
        "dense",
        "dense",
        "conv",
        "conv with normalization",
        "attention",
        "recurrent",
        "adapters",
        "experts",
    ]
    kind = kinds[number % len(kinds)]
    data = r.choice(["mnist", "fashion-mnist", "digits", "cifar-10"])
    outputs = r.choice([1, 1, 1, 3])
    small = kind not in ("dense", "adapters")
    optimizers = ["sgd", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adam", "sign"]
    optimizer = r.choice(optimizers)
    parametrization = r.choice(["ntk", "standard"])
    scale = r.choice([0.5, 0.7, 1.0, 1.0, 1.5, 2.0])
    return {
        "kind": kind,
        "data": data,
        "classes": [0, 1] if data == "cifar-10" else r.sample(range(10), 2 if outputs == 1 else 3),
        "n": r.choice([20, 30, 40, 60]),
        "width": r.choice([16, 32, 64] if small else [64, 256, 512, 1024]),
        "depth": r.choice([1, 1, 2] if kind != "dense" else [1, 1, 2, 3]),
        "activation": r.choice(["relu", "relu", "tanh", "gelu", "silu"]),
        "cell": r.choice([recurrent(nn.GRU), recurrent(nn.LSTM)]),
        "parametrization": parametrization,
        "scale": min(scale, 1.0) if parametrization == "standard" else scale,
        "bias": r.random() < 0.3,
        "optimizer": optimizer,
        "betas": r.choice(BETAS),
        "momentum": r.choice([0.5, 0.9, 0.95]),
        "batch_size": r.choice([None, None, 8, 10]),
        "rate": r.choice([0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.1]),
        "until": r.choice([None, 1e-2, 1e-3, 1e-4]),
        "steps": r.choice([30, 100, 300]),
        "dtype": r.choice(["float32"] * 7 + ["bfloat16"]),
        "seed": r.randrange(100),
    }


def draw_loss(number: int, outputs: int) -> nn.Module:
    """The loss of the problem of that number."""
    of_classes = (
        [nn.BCEWithLogitsLoss(), nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))]
        if outputs == 1
        else [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)]
    )
    of_numbers = [nn.HuberLoss(delta=0.5), nn.SmoothL1Loss(beta=0.3), nn.MSELoss(reduction="sum")]
    return random.Random(2000 + number).choice(3 * of_classes + of_numbers)


def aimed_at(y: Tensor, loss: nn.Module) -> Tensor:
    """Targets (n, C) of the mean square error as those of a loss."""
    if isinstance(loss, nn.CrossEntropyLoss):
        return y.argmax(1)
    return (y > y.mean()).to(y) if isinstance(loss, nn.BCEWithLogitsLoss) else y


def recurrent(cell: type[nn.Module]) -> Any:
    def made(size: int, width: int, depth: int) -> nn.Module:
        return cell(width, width, depth, batch_first=True)

    made.__name__ = cell.__name__
    return made


def factory(p: dict[str, Any], model: nn.Module, task: wm.Task) -> partial:
    name = p["optimizer"]
    if name in ("sgd", "momentum", "nesterov"):
        K = wm.tangent_kernel(model, task.X)
        limit = 2.0 / (task.objective.gamma * wm.spectrum(K).largest)
        if name == "sgd":
            return partial(torch.optim.SGD, lr=p["rate"] * limit)
        mu = p["momentum"]
        if name == "momentum":
            return partial(torch.optim.SGD, lr=p["rate"] * limit * (1 + mu), momentum=mu)
        return partial(torch.optim.SGD, lr=p["rate"] * limit * (1 + mu) / (1 + 2 * mu), momentum=mu, nesterov=True)
    moved = []
    for x in task.X[:5]:
        model.zero_grad()
        model(x[None]).sum().backward()
        moved.append(sum(float(q.grad.abs().sum()) for q in model.parameters() if q.grad is not None))
    model.zero_grad()
    lr = 0.04 * p["rate"] * (1.0 if task.y.ndim == 1 else float(task.y.float().std())) * len(moved) / sum(moved)
    if name == "adagrad":
        return partial(torch.optim.Adagrad, lr=10 * lr)
    if name == "rmsprop":
        return partial(torch.optim.RMSprop, lr=lr, alpha=p["betas"][1])
    if name == "sign":
        return partial(SignDescent, lr=lr)
    return partial(torch.optim.Adam, lr=lr, betas=p["betas"])


def measure(p: dict[str, Any], ways: list[str]) -> dict[str, Any]:
    """What training does, and what each way says of it."""
    task = wm.data.load(p["data"], classes=p["classes"], n_train=p["n"], n_test=50, seed=p["seed"])
    X, X_test = (t.view(len(t), *shape(p["data"])) for t in (task.X, task.X_test))
    dtype = getattr(torch, p["dtype"])
    task = wm.Task(X.to(dtype), task.y.to(dtype), X_test.to(dtype))
    if "loss" in p:
        y = aimed_at(task.y, p["loss"])
        task = wm.Task(task.X, y, task.X_test, loss=p["loss"], classes=None if y.ndim > 1 else range(task.outputs))
    model = build(p, task.X[0], task.outputs).eval().to(dtype)
    recipe = wm.Recipe(factory(p, model, task), batch_size=p["batch_size"], seed=p["seed"])
    row: dict[str, Any] = {"lr": recipe.build(list(model.parameters())).param_groups[0]["lr"]}
    goal: dict[str, Any] = {"steps": p["steps"]}
    if p["until"] is not None:
        goal = {"until": p["until"]}
    try:
        run = wm.train(model, task, recipe, until=p["until"], steps=p["steps"], progress=False)
        if p["until"] is not None and not run.converged:
            goal = {"steps": run.steps}
        row |= {"trained steps": run.steps, "loss": float(run.losses[-1])}
    except wm.errors.TrainingError:
        run = None
        row |= {"trained steps": math.inf, "loss": math.inf}
    std = float(task.y.float().std())
    if "loss" in p:
        std = 1.0 if run is None else max(float(run.test.float().std()), 1e-3)
    for way in ways:
        row[way] = predicted(model, task, recipe, goal, way, run, std)
    return row


def predicted(
    model: nn.Module, task: wm.Task, recipe: wm.Recipe, goal: dict[str, Any], way: str, run: Any, std: float
) -> dict[str, Any]:
    budget = BUDGET if way == "path" else None
    try:
        found = wm.predict(model, task, recipe, **goal, relinearize=way, budget=budget)
    except (wm.errors.DivergenceError, wm.errors.TrainingError) as error:
        return {"diverges": True, "message": str(error)[:200]}
    except wm.errors.WhichminError as error:
        return {"refused": f"{type(error).__name__}: {error}"[:300]}
    row = {
        "method": found.method,
        "intervals": found.intervals,
        "estimate": found.error / std,
        "seconds": found.seconds,
    }
    row |= {"notes": list(found.notes), "steps": float(found.steps)}
    if run is not None:
        row["true"] = float((found.test.double() - run.test.double()).square().mean().sqrt()) / std
    return row


def shape(data: str) -> tuple[int, int, int]:
    return {"digits": (1, 8, 8), "cifar-10": (3, 32, 32)}.get(data, (1, 28, 28))


def verdict(found: dict[str, Any], trained: bool) -> str:
    """In a word: what the estimate is worth."""
    if "refused" in found:
        return "refused"
    if found.get("diverges"):
        return "foreseen" if not trained else "false alarm"
    if not trained:
        return "diverges unforeseen" if not found["notes"] else "diverges, a note"
    true, estimate = max(found["true"], FLOOR), max(found["estimate"], FLOOR)
    if not math.isfinite(estimate):
        return "unknown, a note" if found["notes"] else "unknown"
    if true <= HONEST * estimate:
        return "honest"
    return "WRONG" if true > NEVER * estimate and not found["notes"] else "too sure"


def summary(rows: list[dict[str, Any]], ways: list[str]) -> None:
    """A table of verdicts, and the median of estimate over truth."""
    for way in ways:
        counts: dict[str, int] = {}
        for r in rows:
            word = verdict(r[way], math.isfinite(r["loss"]))
            counts[word] = counts.get(word, 0) + 1
        pairs = [(r[way]["estimate"], r[way]["true"]) for r in rows if "true" in r[way]]
        known = [(max(e, FLOOR), max(t, FLOOR)) for e, t in pairs if math.isfinite(e)]
        ratio = statistics.median(e / t for e, t in known) if known else math.nan
        share = sum(t <= HONEST * e for e, t in known) / max(1, len(known))
        told = f"true ≤ {HONEST:g} × estimate on {share:.1%} of {len(known)}, median estimate over truth {ratio:.2f}"
        print(f"{way}: {counts}; {told}")


def line(number: int, p: dict[str, Any], row: dict[str, Any], ways: list[str]) -> str:
    batch = p["batch_size"] or "all"
    told = f"{number:3d} {p['kind'][:12]:12s} {p['width']:4d} {p['optimizer']:8s} {batch!s:>3s} × {p['rate']:<4g} "
    told += p["dtype"][:4] + (f" {p['loss']}" if "loss" in p else "")
    told += f" {row['trained steps']:>5g} steps to {row['loss']:.1e}"
    for way in ways:
        f = row[way]
        told += f" | {way} "
        if "true" in f:
            told += f"{f['method'][:4]} {f['true']:.1e} est. {f['estimate']:.1e} "
        told += verdict(f, math.isfinite(row["loss"]))
    return told


def named(value: Any) -> Any:
    """As it is stored."""
    if isinstance(value, nn.Module):
        return repr(value)
    return value.__name__ if callable(value) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--ways", nargs="+", default=["auto", "path", "never"])
    parser.add_argument("--losses", action="store_true", help="a loss of its own for each problem")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if "WHICHMIN_DATA" not in os.environ:
        raise SystemExit("set WHICHMIN_DATA to the folder that holds mnist, fashion-mnist and cifar-10-batches-bin")
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    name = "honesty-losses" if options.losses else "honesty"
    for number in range(options.first, options.first + options.problems):
        p = draw(number)
        if options.losses:
            p["loss"] = draw_loss(number, 3 if len(p["classes"]) == 3 else 1)
            if getattr(p["loss"], "label_smoothing", 0.0) and p["until"] is not None:
                p["until"] += 0.3  # below that no outputs come
        row = measure(p, options.ways)
        print(line(number, p, row, options.ways), flush=True)
        rows.append({"number": number} | {k: named(v) for k, v in p.items()} | row)
        if (number + 1) % 20 == 0:
            store(name, rows, vars(options))
    summary(rows, options.ways)
    store(name, rows, vars(options))


if __name__ == "__main__":
    main()
