"""The list of figures, their names, and their claims on tables that are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from whichmin.errors import ConfigError
from whichmin.papers.figure import PAPERS, Size, paired
from whichmin.papers.registry import figures, find

KNOWN = figures()


def test_every_figure_of_the_papers_is_there():
    wanted = {f"which-minimizer/fig{k}" for k in range(1, 11)}
    wanted |= {f"which-minimizer/appendix-{letter}" for letter in "abg"}
    wanted |= {f"dynamical-view/{name}" for name in ("gradient-descent", "heavy-ball", "nesterov", "higher-momentum")}
    wanted |= {f"linear-networks/{name}" for name in ("convergence", "width", "trajectories")}
    assert set(KNOWN) == wanted
    assert {figure.paper for figure in KNOWN.values()} == set(PAPERS)
    contents = [figure.content for figure in KNOWN.values()]
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize("path", KNOWN)
def test_every_figure_claims_something_and_says_so(path):
    figure = KNOWN[path]
    assert figure.claims
    for claim in figure.claims:
        assert claim.says.endswith(".")
        assert claim.quantity
    assert figure.about.endswith(".")
    assert figure.chosen


def test_names():
    assert [f.path for f in find(["initialization"])] == ["which-minimizer/fig2"]
    assert find(["which-minimizer/adaptive"]) == find(["which-minimizer/fig3"]) == find(["fig3"])
    assert len(find(["linear-networks", "linear-networks/width"])) == 3
    with pytest.raises(
        ConfigError, match="there is no figure 'which-minimizer/fig11'; there are which-minimizer/fig1 "
    ):
        find(["which-minimizer/fig11"])
    with pytest.raises(ConfigError, match=r"Did you mean 'deviation'\?"):
        find(["deviatoin"])


def test_sizes_and_kinds_choose_the_cells():
    figure = KNOWN["linear-networks/width"]
    assert 0 < len(figure.cells(Size(quick=True))) < len(figure.cells(Size(quick=False)))
    modern = KNOWN["which-minimizer/fig3"]
    kinds = [
        {cell.arguments["kind"] for cell in modern.cells(Size(True, kinds, "digits"))}
        for kinds in (("predicted",), ("trained",), ("predicted", "trained"))
    ]
    assert kinds == [{"predicted"}, {"trained"}, {"predicted", "trained"}]


def test_figures_share_cells():
    size = Size(True, ("trained",), "digits")
    adaptive, deviation = (set(KNOWN[f"which-minimizer/{name}"].cells(size)) for name in ("fig3", "fig10"))
    assert adaptive < deviation


def test_pairs_are_of_the_same_seeds():
    assert paired(({0: 3.0, 1: 5.0, 2: 7.0}, {1: 1.0, 2: 2.0, 3: 9.0}), lambda a, b: a - b) == [4.0, 5.0]


def answers(path, table):
    figure = KNOWN[path]
    refined = figure.refine(table)
    return {claim.quantity: claim.judge(refined) for claim in figure.claims}


def initialization_table(power):
    rows = []
    for seed in range(4):
        for depth in (1, 2):
            for scale in (0.25, 0.5, 1.0, 2.0, 4.0):
                term = 0.1 * (1 + 0.05 * seed) * scale ** (power * (depth + 1))
                rows.append(
                    {
                        "seed": seed, "width": 64, "depth": depth, "scale": scale, "steps": 100 * scale,
                        "test_loss": 0.02 + term, "interpolator": 0.02, "initialization": np.sqrt(term),
                        "train_loss": 1e-9,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_initialization():
    found = answers("which-minimizer/fig2", initialization_table(2.0))
    assert found["fitted power of α, one hidden layer"].answer == "agrees"
    assert found["fitted power of α, one hidden layer"].mean == pytest.approx(4.0, abs=0.1)
    assert found["fitted power of α, two hidden layers"].answer == "agrees"
    assert found["share of networks within both bounds"].mean == 1
    assert found["steps at α = 1/4 over those at α = 1"].answer == "disagrees"
    assert found["test error after the search over that at the standard scale"].answer == "undecided"
    other = answers("which-minimizer/fig2", initialization_table(1.0))
    assert other["fitted power of α, one hidden layer"].answer == "disagrees"


def test_powers_where_the_smallest_initialization_diverged_and_two_layers_are_narrower():
    table = initialization_table(2.0)
    deep = table["depth"] == 2
    table.loc[deep, "width"] = 32
    table = table[~(deep & (table["scale"] == 0.25) & (table["seed"] > 0))]
    power = answers("which-minimizer/fig2", table)["fitted power of α, two hidden layers"]
    assert power.count == 4
    assert power.mean == pytest.approx(6.0, abs=0.1)
    assert power.answer == "agrees"
    none = answers("which-minimizer/fig2", table[(table["depth"] == 1) | (table["scale"] > 0.5)])
    assert none["fitted power of α, two hidden layers"].count == 0


def test_bounds_that_are_missed():
    table = initialization_table(2.0).assign(test_loss=50.0)
    assert answers("which-minimizer/fig2", table)["share of networks within both bounds"].answer == "disagrees"


@pytest.mark.parametrize(("above", "answer"), [(0.02, "agrees"), (-0.02, "disagrees"), (0.0, "undecided")])
def test_adaptivity(above, answer):
    wave = 5e-3 * np.array([1, -1, 1, -1, 1, -1])
    noise = np.stack([0 * wave, wave, -wave])
    rows = [
        {"seed": s, "width": w, "depth": 1, "optimizer": text, "test_loss": 0.05 + (k > 0) * above + noise[k, s]}
        for s in range(6)
        for w in (64, 256)
        for k, text in enumerate(("sgd", "adagrad:lr=1", "adam:lr=1"))
    ]
    found = answers("which-minimizer/fig3", pd.DataFrame(rows))
    assert found["test error of Adam minus that of gradient descent, same seeds, largest width"].answer == answer


def batch_table(moved):
    """Outputs of mini-batches away from those of full batches by as much as ``moved`` says, by rule."""
    rng, rows = np.random.default_rng(0), []
    for seed in range(3):
        for rule in ("sgd", "adagrad"):
            whole = rng.normal(size=20)
            rows.append(
                {"seed": seed, "optimizer": rule, "batch_size": None, "order": 0, "test": whole, "test_loss": 0.1}
            )
            for batch in (10, 50):
                for order in range(2):
                    test = whole + moved[rule] * rng.normal(size=20)
                    loss = 0.1 + moved[rule] * order
                    rows.append(
                        {
                            "seed": seed,
                            "optimizer": rule,
                            "batch_size": batch,
                            "order": order,
                            "test": test,
                            "test_loss": loss,
                        }
                    )
    return pd.DataFrame(rows)


def test_batches():
    found = list(answers("which-minimizer/fig4", batch_table({"sgd": 0.005, "adagrad": 0.1})).values())
    assert [verdict.answer for verdict in found] == ["agrees"] * 3
    assert found[0].mean == pytest.approx(0.005, rel=0.3)
    found = list(answers("which-minimizer/fig4", batch_table({"sgd": 0.3, "adagrad": 0.01})).values())
    assert [verdict.answer for verdict in found] == ["disagrees"] * 3


def test_deviations():
    rng, rows = np.random.default_rng(0), []
    for seed in range(3):
        for width in (64, 256):
            gd = rng.normal(size=30)
            sizes = {"sgd": 0.0, "adam:lr=1": 8 / width, "adagrad:lr=1": 8 / width, "sgd:lr=2.0": 1 / width}
            for text, size in sizes.items():
                batch = 10 if text == "sgd:lr=2.0" else None
                test = gd + size * rng.normal(size=30)
                rows.append({"seed": seed, "width": width, "optimizer": text, "batch_size": batch, "test": test})
    found = answers("which-minimizer/fig10", pd.DataFrame(rows))
    assert {verdict.answer for verdict in found.values()} == {"agrees"}
    assert found["deviation of SGD at the largest width over that at the smallest"].mean == pytest.approx(0.25, rel=0.3)


def test_linearization_errors():
    rows = [
        {"seed": s, "width": w, "optimizer": text, "error": (1 + 0.01 * s) * w**power}
        for s in range(3)
        for w in (64, 256, 1024)
        for text, power in (("adagrad:lr=1", -0.5), ("adam:lr=1", 0.1))
    ]
    adagrad, adam = answers_in_order("which-minimizer/appendix-g", pd.DataFrame(rows))
    assert (adagrad.answer, adam.answer) == ("agrees", "disagrees")


def answers_in_order(path, table):
    figure = KNOWN[path]
    return [claim.judge(figure.refine(table)) for claim in figure.claims]
