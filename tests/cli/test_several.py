"""Several optimizers in one call, and those that fail."""

from __future__ import annotations

import json
import math

import pytest
import torch

from whichmin.errors import TrainingError
from whichmin.studies.experiment import Experiment, run, runner, table

from .conftest import SMALL

TINY = {"hidden": (32,), "n_train": 12, "n_test": 8, "seeds": 2, "until": 3e-2, "dtype": "float64"}


@pytest.fixture(scope="module")
def pair():
    return run(Experiment(optimizer="sgd,adam", lr=("best", 1e-2), **TINY))


def failing(monkeypatch, fails):
    """Training of an optimizer's class fails where ``fails`` says so, by class name and call."""
    train, calls = runner.train, []

    def maybe(model, task, recipe, **options):
        calls.append(recipe.optimizer.func.__name__)
        if fails(calls):
            raise TrainingError("the loss is not finite at step 3", state={}, step=3, losses=[])
        return train(model, task, recipe, **options)

    monkeypatch.setattr(runner, "train", maybe)
    return calls


def test_entries_by_optimizer_and_seed(pair):
    assert [e.label for e in pair] == ["sgd, seed 0", "sgd, seed 1", "adam, seed 0", "adam, seed 1"]
    assert [e.run.optimizer for e in pair] == ["SGD", "SGD", "Adam", "Adam"]
    assert "geometry" in pair[2].explanation.terms
    for entry in pair:
        torch.testing.assert_close(entry.explanation.total, entry.run.test.double(), rtol=0, atol=1e-8)


def test_the_linearized_run_of_an_optimizer_without_a_formula_is_the_explanation_s(pair):
    assert pair[2].linearized is pair[2].explanation.prediction
    assert pair[2].linearized.steps == pair[2].run.steps


def test_means_are_by_optimizer(pair):
    frame = table(pair)
    assert list(frame.index[-4:]) == ["sgd, mean", "sgd, sd", "adam, mean", "adam, sd"]
    of = frame.loc[["adam, seed 0", "adam, seed 1"], "test_loss_trained"]
    assert frame.loc["adam, mean", "test_loss_trained"] == pytest.approx(of.mean())
    assert frame.loc["adam, sd", "test_loss_trained"] == pytest.approx(of.std())
    assert math.isnan(frame.loc["sgd, mean", "share_geometry"])


def test_another_list_uses_what_is_finished(tmp_path, monkeypatch):
    run(Experiment(optimizer="sgd,adam", **TINY, steps=15), out=tmp_path)
    calls = failing(monkeypatch, lambda _: False)
    run(Experiment(optimizer="adagrad:lr=0.1,adam,sgd", seed=5, **TINY, steps=15), out=tmp_path)
    assert calls == ["Adagrad"] * 2
    run(Experiment(optimizer="adam:lr=0.01", **TINY, steps=15), out=tmp_path)
    assert calls == ["Adagrad"] * 2 + ["Adam"] * 2


@pytest.mark.usefixtures("undrawn")
def test_the_table_of_several(cli):
    code, out, err = cli("explain", *SMALL, "--seeds", "2", "--optimizer", "sgd,Adam:lr=0.01")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].endswith("· sgd, adam")
    assert lines[2].split() == ["sgd", "adam"]
    assert any(line.startswith("adam, seed 1  ") for line in lines)
    assert lines.count("A comparison of 2: sgd; adam.") == 1
    start = lines.index("A comparison of 2: sgd; adam.")
    assert max(map(len, lines[:start])) <= 100
    assert any(line.startswith("sgd – adam ") for line in lines[start:])


@pytest.mark.usefixtures("undrawn")
def test_json_says_what_the_table_says(cli):
    code, out, err = cli("predict", *SMALL, "--seeds", "2", "--optimizer", "sgd,adam", "--lr", "best,0.01", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert [o["name"] for o in said["config"]["optimizer"]] == ["sgd", "adam"]
    assert [s["optimizer"] for s in said["seeds"]] == ["sgd", "sgd", "adam", "adam"]
    assert all(s["failed"] is None for s in said["seeds"])
    assert said["optimizers"]["adam"]["mean"]["learning_rate"] == pytest.approx(0.01)
    matrix = said["apart"]["predicted"]
    assert matrix[0][1] == matrix[1][0] > 0
    assert matrix[0][0] is said["apart"]["trained"] is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam:lr=0.01"])
def test_mini_batches(cli_json, optimizer):
    said = cli_json("explain", "--optimizer", optimizer, "--lr", "0.3", "--batch-size", "8", "--seed", "3")
    (seed,) = said["seeds"]
    assert said["config"]["batch_size"] == 8
    assert seed["failed"] is None
    assert seed["mse_to_trained_relinearized"] < 0.05
    assert seed["mse_to_trained_relinearized"] < 0.3 * seed["mse_to_trained_linearized"]


def test_a_batch_above_all_rows_is_all_rows(cli_json):
    whole, above = cli_json("predict"), cli_json("predict", "--batch-size", "1000")
    assert above["config"]["batch_size"] is None
    assert above["seeds"][0]["test_loss_relinearized"] == whole["seeds"][0]["test_loss_relinearized"]


@pytest.mark.parametrize("optimizer", ["nesterov", "higher-momentum", "sgd:momentum=0.9,nesterov=true"])
def test_best_is_within_the_limit_of_momentum(cli_json, optimizer):
    said = cli_json("predict", "--optimizer", optimizer)
    assert said["seeds"][0]["test_loss_relinearized"] < 1


@pytest.mark.usefixtures("undrawn")
def test_a_seed_that_fails_does_not_end_the_others(cli, monkeypatch, tmp_path):
    failing(monkeypatch, lambda calls: len(calls) == 2)
    code, out, _ = cli("explain", *SMALL, "--seeds", "3")
    assert code == 1
    assert "seed 1 (failed)" in out.splitlines()[2]
    assert "note: seed 1 failed: the loss is not finite at step 3" in out
    assert len(list((tmp_path / "whichmin-out" / "runs").iterdir())) == 2
    assert "What failed" in (tmp_path / "whichmin-out" / "explain.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_an_optimizer_that_fails_does_not_end_the_others(cli, monkeypatch):
    failing(monkeypatch, lambda calls: calls[-1] == "Adam")
    code, out, _ = cli("explain", *SMALL, "--seeds", "2", "--optimizer", "adam,sgd", "--json")
    assert code == 1
    said = json.loads(out)
    assert [s["failed"] for s in said["seeds"]] == ["the loss is not finite at step 3"] * 2 + [None] * 2
    assert said["seeds"][0]["test_loss_trained"] is said["optimizers"]["adam"]["mean"]["test_loss_trained"] is None
    assert said["optimizers"]["sgd"]["mean"]["test_loss_trained"] > 0
    assert "apart" not in said


@pytest.mark.usefixtures("undrawn")
def test_a_rate_that_diverges_is_told_beside_one_that_does_not(cli):
    code, out, _ = cli("predict", *SMALL, "--seeds", "1", "--optimizer", "sgd,sgd:lr=100")
    assert code == 1
    assert "sgd lr=100, seed 0 (failed)" in out
    assert "limit of stability" in " ".join(out.split())


def test_nothing_but_failures_is_an_error(cli):
    code, out, err = cli("predict", *SMALL, "--seeds", "2", "--lr", "100")
    assert code == 2
    assert out == ""
    assert "whichmin: error: lr = 100 diverges" in err


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--optimizer", "adma"], "did you mean 'adam'"),
        (["--optimizer", "sgd:momentm=0.9"], "did you mean 'momentum'"),
        (["--optimizer", "sgd,adam", "--lr", "0.1,0.2,0.3"], "3 of them for 2 optimizers (sgd, adam); expected"),
        (["--optimizer", "adam", "--lr", "best"], "lr is 'best' for adam"),
        (["--batch-size", "0"], "batch_size is 0; expected a whole number of rows, 1 or more"),
    ],
)
def test_bad_input(cli, tokens, said):
    code, out, err = cli("explain", *tokens)
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.usefixtures("undrawn")
def test_several_of_everything_are_compared_as_compare_compares(cli, tmp_path):
    several = ["--hidden", "16,24-24", "--scale", "0.9,1", "--batch-size", "none,8", "--lr", "0.1,0.2", "--steps", "4"]
    code, out, err = cli("predict", *several, "--seeds", "3,1", *SMALL[2:], "--json")
    assert code == 0, err
    said = json.loads(out)
    assert len(said["seeds"]) == 2 * 2 * 2 * 2 * 2
    assert said["seeds"][0]["label"] == "sgd lr=0.1, full batch, hidden 16, scale 0.9, seed 3"
    assert said["seeds"][-1]["label"] == "sgd lr=0.2, batch 8, hidden 24-24, scale 1, seed 1"
    assert len(said["comparison"]["pairs"]) == 16 * 15 // 2
    folder = tmp_path / "whichmin-out"
    assert said["comparison_report"] == str(folder / "predict-comparison.html")
    page = (folder / "predict-comparison.html").read_text()
    assert "minimizers from the same seed" in page
    assert Experiment.from_mapping(said["config"]).to_dict() == said["config"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("train", [False, True])
def test_explain_compares_what_compare_does(cli, train):
    asked = [*SMALL, "--tol", "0.02", "--seeds", "2", "--batch-size", "none,10", "--optimizer", "sgd:lr=0.5"]
    asked += ["--train"] if train else ["--no-train"]
    answers = {}
    for command in ("explain", "compare"):
        code, out, err = cli(command, *asked, "--json")
        assert code == 0, err
        answers[command] = json.loads(out)
    beside, alone = answers["explain"]["comparison"], answers["compare"]
    kind = "trained" if train else "predicted"
    for ours, theirs in zip(beside["pairs"], alone["pairs"], strict=True):
        assert (ours["one"], ours["other"]) == (theirs["one"], theirs["other"])
        assert ours[kind]["paired"]["distance"]["mean"] == pytest.approx(
            theirs[kind]["paired"]["distance"]["mean"], rel=1e-3
        )
    assert beside["test_error"][kind].keys() == alone["test_error"][kind].keys()


@pytest.mark.usefixtures("undrawn")
def test_one_seed_is_not_compared(cli, tmp_path):
    code, out, err = cli("predict", *SMALL, "--seeds", "1", "--optimizer", "sgd,adam:lr=0.01", "--steps", "9")
    assert code == 0, err
    assert "distance between optimizers" in out
    assert not (tmp_path / "whichmin-out" / "predict-comparison.html").exists()
