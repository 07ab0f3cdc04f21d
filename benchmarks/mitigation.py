"""What the remedies bring, predicted and trained: MNIST 0/1 at N = 100 over seeds and scales, and random problems.

    WHICHMIN_DATA=folder python benchmarks/mitigation.py [--seeds 10] [--scales 1 2 4] [--remedies NAME …]
                                                           [--problems 50] [--threads 2]

The first part: width 2048, scales α, 200 validation points, the learning rate 0.4 of the best. All remedies are
predicted and trained. Its table has for each α the mean test MSE over seeds and its ratio to that of the interpolator
(scale search, centered and antisymmetric copies within 10 %, subtraction within 25 %), the time of training from
scratch over that of a jump (twenty at least), by a plain loop of torch and by whichmin, which trains in the
coordinates of the rows' span, with the distance of the two minimizers beside the linearization error, and how many
seeds' predicted search picks the scale of the trained one (nine of ten).

The second part: problems of the draw of ``honesty.py`` at scales up to 4; in how many the remedy that is chosen without
training has a trained validation error within 5 % of the best trained remedy's (45 of 50).
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import random
import time
from functools import partial
from typing import Any

import torch
from _environment import store
from honesty import build, draw, factory, shape

import whichmin as wm

#: Training points of the first part, and the training loss that it aims at.
N, UNTIL = 100, 1e-5
#: Steps after which a plain loop gives up.
MOST_PLAIN = 50_000
#: The part of the best learning rate at which the networks of the first part are trained.
RATE = 0.4
#: Steps after which the problems of the second part give up.
MOST_STEPS = 3000
#: Remedies that are compared with the interpolator, and how far above its mean test error they may be.
WITHIN = {"scale_search": 0.10, "centered": 0.10, "antisymmetric": 0.10, "subtract": 0.25}
#: What is printed of a random problem.
SHOWN = ("number", "kind", "optimizer", "scale", "best", "best over least", "lowest", "lowest over least", "refused")
REMEDIES = ("scale_search", "antisymmetric", "centered", "subtract", "jump")


def seeds_and_scales(seeds: int, scales: list[float], every: bool, remedies: list[str]) -> list[dict[str, Any]]:
    pool = wm.data.load("mnist", classes=(0, 1), n_train=N + 200, n_test=500, seed=0)
    task = wm.Task(pool.X[:N], pool.y[:N], pool.X_test, pool.y_test)
    validation = (pool.X[N:], pool.y[N:])
    wm.predict(wm.networks.MLP((784, 8, 1), seed=0), task, partial(torch.optim.SGD, lr=0.1), steps=2)  # loads torch
    rows, train = [], "all" if every else ["as_it_is", *remedies]
    for scale in scales:
        for seed in range(seeds):
            model = wm.networks.MLP((784, 2048, 1), scale=scale, seed=seed)
            best = wm.spectrum(wm.tangent_kernel(model, task.X)).best_lr
            sgd = partial(torch.optim.SGD, lr=RATE * best)
            found = wm.mitigate(
                model, task, sgd, validation=validation, methods=remedies, train=train, until=UNTIL, tol=1e-2
            )
            row: dict[str, Any] = {"α": scale, "seed": seed}
            row["interpolator"] = found.task.test_loss(found.interpolant.test)
            frame = found.to_frame().set_index("method")
            for remedy in found.remedies:
                for kind in ("predicted", "trained"):
                    row[f"{remedy.name} {kind}"] = float(frame.loc[remedy.name, f"test_{kind}"])
                if remedy.trained is not None:
                    row[f"{remedy.name} seconds"] = remedy.trained.seconds
                row[f"{remedy.name} failure"] = remedy.failure
            if "scale_search" in remedies:
                row |= searched(found["scale_search"])
            if "jump" in remedies:
                row |= jumped(found, plain_seconds(model, task, sgd))
            row |= {"best": found.best, "seconds": found.seconds}
            rows.append(row)
            print({k: (f"{v:.3g}" if isinstance(v, float) else v) for k, v in row.items()}, flush=True)
    return rows


def searched(remedy: Any) -> dict[str, Any]:
    predicted, trained = remedy.search, remedy.trained_search
    row = {"scale predicted": predicted.scale, "predictions": len(predicted.scales), "stopped": predicted.reason}
    return row if trained is None else row | {"scale trained": trained.scale}


def plain_seconds(model: torch.nn.Module, task: wm.Task, factory: Any) -> float:
    """What training to the aim takes in a plain loop of torch."""
    network = copy.deepcopy(model)
    optimizer = factory(network.parameters())
    started = time.perf_counter()
    for _ in range(MOST_PLAIN):
        optimizer.zero_grad()
        loss = (network(task.X) - task.y).square().mean()
        if loss.item() < UNTIL:
            return time.perf_counter() - started
        loss.backward()
        optimizer.step()
    return math.nan


def jumped(found: wm.Mitigation, plain: float) -> dict[str, Any]:
    scratch, jump = found["as_it_is"].trained, found["jump"].trained
    if scratch is None or jump is None:
        return {}
    apart = float((scratch.test.double() - jump.test.double()).square().mean().sqrt())
    return {
        "jump times faster": plain / jump.seconds,
        "jump over whichmin's training": scratch.seconds / jump.seconds,
        "jump distance": apart,
        "jump loss": jump.train_loss,
        "prediction error": found["as_it_is"].predicted.error,
    }


def table(rows: list[dict[str, Any]]) -> None:
    for scale in sorted({row["α"] for row in rows}):
        at = [row for row in rows if row["α"] == scale]

        def mean(name: str, of: list[dict[str, Any]] = at) -> float:
            known = [row[name] for row in of if name in row and not math.isnan(row[name])]
            return sum(known) / len(known) if known else math.nan

        print(f"α = {scale:g}, {len(at)} seeds: mean test MSE as trained {mean('as_it_is trained'):.4g}, ", end="")
        print(f"interpolator {mean('interpolator'):.4g}")
        for name, within in WITHIN.items():
            ratio = mean(f"{name} trained") / mean("interpolator")
            told = f"{mean(f'{name} predicted'):.4g} predicted, {mean(f'{name} trained'):.4g} trained"
            print(f"  {name}: {told}, {ratio - 1:+.1%} (within {within:.0%}: {'yes' if ratio <= 1 + within else 'NO'})")
        print(f"  jump: {mean('jump times faster'):.3g} times faster than a plain loop, ", end="")
        own = "jump over whichmin's training"
        print(f"{mean(own):.3g} times faster than whichmin's training, {mean('jump distance'):.2g} apart, ", end="")
        print(f"prediction error {mean('prediction error'):.2g}")
        if not any("scale trained" in row for row in at):
            continue
        alike = sum(math.isclose(row["scale predicted"], row.get("scale trained", math.nan)) for row in at)
        print(f"  the predicted search picks the trained one's scale in {alike} of {len(at)}")


def random_problem(number: int) -> dict[str, Any]:
    p = draw(number)
    r = random.Random(5000 + number)
    if p["kind"] == "dense" and p["activation"] in ("relu", "gelu"):
        p["scale"] = r.choice([1.0, 1.5, 2.0, 3.0, 4.0])
        p["parametrization"] = "ntk"
    p |= {"dtype": "float32", "rate": min(p["rate"], 0.8), "until": p["until"] or 1e-2}
    task = wm.data.load(p["data"], classes=p["classes"], n_train=2 * p["n"], n_test=100, seed=p["seed"])
    X, X_test = (t.view(len(t), *shape(p["data"])) for t in (task.X, task.X_test))
    n = p["n"]
    validation = (X[n:], task.y[n:])
    task = wm.Task(X[:n], task.y[:n], X_test, task.y_test)
    model = build(p, task.X[0], task.outputs).eval()
    recipe = wm.Recipe(factory(p, model, task), batch_size=p["batch_size"], seed=p["seed"])
    told = {k: (v.__name__ if k == "cell" else v) for k, v in p.items()}
    found = wm.mitigate(
        model, task, recipe, validation=validation, until=p["until"], steps=MOST_STEPS, train="all",
        methods=["scale_search", "antisymmetric", "centered", "subtract", "zero_last_layer"],
    )  # fmt: skip
    frame = found.to_frame().set_index("method").drop(index="interpolator")
    trained = frame["validation_trained"].dropna()
    row: dict[str, Any] = {"number": number, "best": found.best, "lowest": found.lowest} | told
    row |= {"validation": trained.to_dict(), "failures": {r.name: r.failure for r in found.remedies if r.failure}}
    row |= {"predicted": frame["validation_predicted"].to_dict(), "seconds": found.seconds}
    for of in ("best", "lowest"):
        row[f"{of} over least"] = float(trained.get(row[of], math.nan) / trained.min())
    return row


def problems(count: int, first: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(first, first + count):
        try:
            row = random_problem(number)
        except wm.errors.WhichminError as error:
            row = {"number": number, "refused": f"{type(error).__name__}: {error}"[:300]}
        rows.append(row)
        print({k: (f"{v:.3g}" if isinstance(v := row[k], float) else v) for k in SHOWN if k in row}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--every", action=argparse.BooleanOptionalAction, default=True, help="train at every scale")
    parser.add_argument("--remedies", nargs="+", default=list(REMEDIES), help="of the first part")
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if "WHICHMIN_DATA" not in os.environ:
        raise SystemExit("set WHICHMIN_DATA to the folder that holds mnist, fashion-mnist and cifar-10-batches-bin")
    torch.set_num_threads(options.threads)
    rows = seeds_and_scales(options.seeds, options.scales, options.every, options.remedies) if options.seeds else []
    drawn = problems(options.problems, options.first)
    if rows:
        table(rows)
    told = [row for row in drawn if "refused" not in row]
    if told:
        for of, what in (("best", "recommended"), ("lowest", "of the lowest predicted loss")):
            good = sum(row[f"{of} over least"] <= 1.05 for row in told)
            print(f"the remedy {what} is within 5 % of the best trained one in {good} of {len(told)}")
    print(store("mitigation", {"seeds": rows, "problems": drawn}, vars(options)))


if __name__ == "__main__":
    main()
