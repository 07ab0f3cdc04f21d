"""The commands on small problems, with everything real."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from whichmin.dynamics.paths.clock import untimed
from whichmin.studies.experiment import Experiment, run, runner, table
from whichmin.training.foreseen import SHARED

from .conftest import SMALL

TERMS = ("interpolant", "initialization", "unconverged", "curvature", "drift")
TINY = Experiment(hidden=(64,), n_train=20, n_test=10, seeds=2, until=1e-2, dtype="float64")


def test_explain_prints_a_table_and_writes_a_report(cli, tmp_path):
    code, out, err = cli("explain", *SMALL, "--seeds", "2")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("digits 0 against 1 · 20 training and 10 test points · mlp 64")
    assert all(any(term in line for line in lines) for term in TERMS)
    assert max(map(len, lines[:-1])) <= 100
    assert lines[-1] == f"report: {tmp_path / 'whichmin-out' / 'explain.html'}"
    assert "<html" in (tmp_path / "whichmin-out" / "explain.html").read_text()[:2000].lower()
    table = pd.read_csv(tmp_path / "whichmin-out" / "explain.csv")
    assert table["entry"].iloc[0] == "seed 0"
    assert table["test_loss_trained"].notna().all()


def test_explain_as_json(cli_json):
    said = cli_json("explain")
    (seed,) = said["seeds"]
    assert seed["steps_trained"] > 0
    assert seed["mse_to_trained_relinearized"] < seed["mse_to_trained_linearized"]
    assert seed["mse_to_trained_relinearized"] == pytest.approx(0, abs=1e-2)
    assert seed["speedup"] == pytest.approx(seed["seconds_train"] / seed["seconds_predict"])
    assert said["config"]["hidden"] == [64]
    assert Path(said["report"]).is_file()
    assert Path(said["csv"]).is_file()
    assert Experiment.from_mapping(said["config"]).layers == (64,)


def test_explain_of_cross_entropy(cli, tmp_path):
    code, out, err = cli("explain", *SMALL, "--loss", "cross-entropy", "--classes", "0,1,2", "--seeds", "2")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].endswith("gradient descent · cross-entropy")
    assert "test error (cross-entropy)" in lines
    start = lines.index("accuracy")
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["trained", "predicted,", "predicted,"]
    page = (tmp_path / "whichmin-out" / "explain.html").read_text()
    assert "Training brought the cross-entropy to" in page
    assert "training loss (cross-entropy)" in page
    assert "test error (cross-entropy) of the sum so far" in page


def test_cross_entropy_as_json(cli_json):
    whole = cli_json("explain", "--loss", "cross-entropy")
    (seed,) = whole["seeds"]
    said = whole["config"]
    entry = run(Experiment.from_mapping(said | {"seeds": 1}))[0]
    task, tests = entry.run.task, {"trained": entry.run, "relinearized": entry.relinearized}
    assert (task.outputs, task.y.dtype, task.classes) == (2, torch.int64, (0, 1))
    for kind, part in tests.items():
        loss = float(torch.nn.functional.cross_entropy(part.test, task.y_test))
        assert seed[f"test_loss_{kind}"] == pytest.approx(loss, rel=1e-6)
        right = float((part.test.argmax(1) == task.y_test).double().mean())
        assert seed[f"accuracy_{kind}"] == pytest.approx(right)
    assert entry.run.losses[-1] < said["until"] < entry.run.losses[-2]


@pytest.mark.parametrize("loss", ["binary-cross-entropy", "huber", "smooth-l1", "gaussian"])
def test_every_loss_is_predicted(cli_json, loss):
    said = cli_json("predict", "--loss", loss)
    (seed,) = said["seeds"]
    assert said["config"]["loss"] == loss
    assert 0 < seed["test_loss_relinearized"] < 1
    assert 0.5 < seed["accuracy_relinearized"] <= 1


@pytest.mark.parametrize("command", ["predict", "explain", "compare"])
def test_a_loss_without_a_minimizer_needs_an_end(cli, command):
    code, out, err = cli(command, "--hidden", "16", "--n-train", "6", "--n-test", "4", "--loss", "cross-entropy")
    assert code == 2
    assert "outputs that lower the cross-entropy grow for ever: say where training ends" in err
    assert out == ""


@pytest.mark.parametrize("tokens", [("predict",), ("explain", "--no-train")])
def test_without_training(cli_json, tokens):
    said = cli_json(*tokens)
    (seed,) = said["seeds"]
    assert said["config"]["train"] is False
    assert seed["steps_trained"] is seed["test_loss_trained"] is seed["seconds_train"] is None
    assert seed["test_loss_relinearized"] > 0
    assert seed["share_interpolant"] > 0


def test_prediction_is_that_of_explain(cli_json):
    with_training, without = cli_json("explain")["seeds"][0], cli_json("predict")["seeds"][0]
    for name in ("test_loss_linearized", "test_loss_relinearized", "learning_rate", "steps_predicted"):
        assert without[name] == pytest.approx(with_training[name], rel=1e-9)


def test_real_training_that_is_the_prediction_is_made_once(monkeypatch):
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained twice"))
    asked = TINY.to_dict() | {"seeds": 2, "optimizer": "adam", "batch_size": 5}
    for entry in run(Experiment(**asked)):
        assert entry.relinearized.method == "trained"
        assert torch.equal(entry.run.test, entry.relinearized.test)
        assert entry.run.steps == entry.relinearized.steps
        torch.testing.assert_close(entry.explanation.total, entry.run.test.double(), rtol=0, atol=1e-6)
        assert SHARED in entry.relinearized.notes


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["explain", "predict"])
def test_tables_say_how_predictions_were_made(cli, command):
    asked = [command, *SMALL, "--seeds", "1", "--optimizer"]
    _, out, _ = cli(*asked, "adam", "--batch-size", "10")
    assert "by training, estimated" in out
    assert "to predict, by training" in out
    assert "along the path" not in out
    with untimed():
        _, out, _ = cli(*asked, "adam,sgd:lr=1", "--batch-size", "10,none")
    assert "to predict, along the path or by training" in out
    _, said, _ = cli(*asked, "adam", "--batch-size", "10", "--json")
    assert json.loads(said)["seeds"][0]["method"] == "trained"


@pytest.mark.usefixtures("undrawn")
def test_only_json_on_standard_output(cli, tmp_path, monkeypatch):
    (tmp_path / "loud.py").write_text(
        "from whichmin.networks import MLP\n"
        "def make(seed):\n    print('hello')\n    return MLP((64, 16, 1), seed=seed)\n"
    )
    tokens = ["explain", "--model", "loud:make", "--json", "--seeds", "1", "--steps", "5", *SMALL[2:]]
    code, out, err = cli(*tokens)
    monkeypatch.delitem(sys.modules, "loud")
    assert code == 0, err
    assert json.loads(out)["config"]["model"] == "loud:make"
    assert "hello" in err


def test_finished_seeds_are_read_back(tmp_path, monkeypatch):
    first = run(TINY, out=tmp_path)
    monkeypatch.setattr(runner, "predict", lambda *_, **__: pytest.fail("computed again"))
    again = run(TINY, out=tmp_path)
    assert table(again).equals(table(first))
    torch.testing.assert_close(again[1].explanation.total, first[1].explanation.total, rtol=0, atol=0)


def test_a_damaged_seed_is_computed_again(tmp_path):
    (first,) = run(Experiment(**TINY.to_dict() | {"seeds": 1}), out=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / "linearized" / "arrays.safetensors").write_bytes(b"")
    (again,) = run(Experiment(**TINY.to_dict() | {"seeds": 1}), out=tmp_path)
    torch.testing.assert_close(again.linearized.test, first.linearized.test)
    assert (folder / "linearized" / "arrays.safetensors").stat().st_size > 0


def test_nothing_is_kept_unless_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(Experiment(**TINY.to_dict() | {"seeds": 1, "train": False}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("within", [True, False], ids=["while training", "elsewhere"])
def test_an_interrupt_leaves_finished_seeds(cli, tmp_path, monkeypatch, within):
    train, step, calls = runner.train, torch.optim.SGD.step, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 2 and not within:
            raise KeyboardInterrupt
        if len(calls) == 2:
            monkeypatch.setattr(torch.optim.SGD, "step", interrupt)
        return train(*arguments, **options)

    def interrupt(*_, **__):
        monkeypatch.setattr(torch.optim.SGD, "step", step)
        raise KeyboardInterrupt

    tokens = ["explain", *SMALL, "--seeds", "2"]
    monkeypatch.setattr(runner, "train", interrupted)
    code, out, err = cli(*tokens)
    assert code == 130
    assert out == ""
    assert "whichmin: interrupted: 1 of 2 seeds finished, kept in whichmin-out/runs; the same command" in err
    assert [path.name.startswith(".") for path in (tmp_path / "whichmin-out" / "runs").iterdir()] == [False]
    assert cli(*tokens)[0] == 0
    assert len(calls) == 3


@pytest.fixture(scope="module")
def entries():
    return run(TINY)


def test_table_sums_up_the_entries(entries):
    frame = table(entries)
    assert list(frame.index) == ["seed 0", "seed 1", "mean", "sd"]
    pair = frame.loc[["seed 0", "seed 1"], "test_loss_trained"]
    assert frame.loc["mean", "test_loss_trained"] == pytest.approx(pair.mean())
    assert frame.loc["sd", "test_loss_trained"] == pytest.approx(abs(pair.diff().iloc[1]) / 2**0.5)


def test_the_table_is_about_the_outputs(entries):
    entry, _ = entries
    row = table([entry]).loc[entry.label]
    assert row["test_loss_trained"] == pytest.approx(float((entry.run.test - entry.run.task.y_test).square().mean()))
    assert row["mse_to_trained_relinearized"] == pytest.approx(
        float((entry.run.test - entry.relinearized.test).square().mean())
    )
    assert row["estimated_relinearized"] == pytest.approx(entry.relinearized.error**2)
    assert row["share_drift"] == pytest.approx(float(entry.explanation.terms["drift"].square().mean()))


def test_a_number_of_steps_ends_training(cli_json):
    said = cli_json("explain", "--steps", "7")
    assert said["seeds"][0]["steps_trained"] == said["seeds"][0]["steps_predicted"] == 7
    assert said["notes"]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_default_question(cli):
    """With everything at its default, but one seed and a coarser aim."""
    code, out, err = cli("explain", "--seeds", "1", "--until", "1e-2")
    assert code == 0, err
    assert "interpolant" in out


@pytest.fixture
def homes(tmp_path):
    generator = torch.Generator().manual_seed(0)
    area, price = torch.randn(30, generator=generator), torch.randn(30, generator=generator)
    rows = [f"{a:.4f},{'ab'[i % 2]},{p:.4f}" for i, (a, p) in enumerate(zip(area, price, strict=True))]
    path = tmp_path / "homes.csv"
    path.write_text("\n".join(["area,city,price", *rows]) + "\n")
    return path


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("command", ["explain", "predict"])
def test_a_table_is_asked_about(cli, tmp_path, homes, command):
    asked = ["--target", "price", "--test", "0.2", "--hidden", "32", "--seeds", "1", "--steps", "5"]
    asked += ["--out", str(tmp_path / command)]
    code, said, err = cli(command, "--data", str(homes), *asked, "--json")
    assert code == 0, err
    config = json.loads(said)["config"]
    assert (config["target"], config["test"], config["standardize"], config["n_train"]) == ("price", 0.2, True, None)
    _, plain, _ = cli(command, "--data", str(homes), *asked, "--no-standardize", "--json")
    assert json.loads(plain)["config"]["standardize"] is False
    code, said, _ = cli(command, "--data", str(homes), *asked)
    assert said.splitlines()[0].startswith(f"{homes} · 80% of the rows to train on and 20% to test on · mlp 32")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("target", "loss"), [("city", "cross-entropy"), ("price", "mse")])
def test_the_target_of_a_table_decides_the_loss(cli, homes, target, loss):
    asked = ["--data", str(homes), "--hidden", "32", "--seeds", "1", "--steps", "5", "--json"]
    code, said, err = cli("predict", *asked, "--target", target)
    assert code == 0, err
    assert json.loads(said)["config"]["loss"] == loss
    _, said, _ = cli("predict", *asked, "--target", target, "--loss", "mse")
    assert json.loads(said)["config"]["loss"] == "mse"


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (
            ["--data", "HOMES", "--target", "city"],
            "outputs that lower the cross-entropy grow for ever: say where training ends, as by --until 0.1 or",
        ),
        (
            ["--test", "0.4", "--no-standardize"],
            "got --test and --no-standardize, about the rows and columns of a table, and data is 'digits'",
        ),
        (
            ["--data", "HOMES"],
            "HOMES is a table: say which column is the target, target='price' or --target; its",
        ),
        (
            ["--data", "HOMES", "--target", "prize"],
            "no column 'prize'; its columns are 'area', 'city', 'price'. Did",
        ),
        (
            ["--target", "price"],
            "target is 'price', a column of a table, and data is 'digits': pass a .csv",
        ),
        (
            ["--data", "HOMES", "--target", "price", "--test", "1.5"],
            "test is 1.5; expected a share of the rows",
        ),
    ],
)
def test_tables_that_cannot_be_asked_about(cli, homes, tokens, message):
    code, _, err = cli("predict", *(str(homes) if token == "HOMES" else token for token in tokens))
    assert code == 2
    assert message.replace("HOMES", str(homes)) in err
