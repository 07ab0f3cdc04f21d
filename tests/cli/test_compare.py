"""``whichmin compare`` through the entry point, on a problem that is predicted in a blink."""

from __future__ import annotations

import json

import pytest

SMALL = ["--width", "64", "--n-train", "20", "--n-test", "10", "--until", "1e-2", "--dtype", "float64", "--seeds", "2"]
TWO = ["--optimizer", "sgd,adagrad:lr=0.03"]


def test_a_table_and_a_report(cli, tmp_path):
    code, out, err = cli("compare", *SMALL, *TWO)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split() == ["test", "error", "predicted"]
    assert [line.split()[0] for line in lines[1:3]] == ["sgd", "adagrad"]
    assert any(line.startswith("sgd – adagrad ") for line in lines)
    assert "2 seeds cannot tell at level 0.05" in " ".join(out.split())
    report = tmp_path / "whichmin-out" / "report.html"
    assert lines[-1] == f"report: {report}"
    assert "sgd – adagrad" in report.read_text(encoding="utf-8")


def test_one_object_with_batches_and_training(cli, tmp_path):
    code, out, err = cli("compare", *SMALL, *TWO, "--batch-size", "none,5", "--train", "--out", "there", "--json")
    assert code == 0, err
    said = json.loads(out)
    assert list(said["test_error"]) == ["predicted", "trained"]
    names = ["sgd, full batch", "sgd, batch 5", "adagrad, full batch", "adagrad, batch 5"]
    assert list(said["test_error"]["trained"]) == names
    assert len(said["pairs"]) == 6
    assert said["pairs"][0]["trained"]["error"] == 0
    assert said["pairs"][0]["predicted"]["rms_distance"]["mean"] > 0
    assert said["report"] == str(tmp_path / "there" / "report.html")
    assert len(list((tmp_path / "there" / "runs").iterdir())) == 16


def test_a_choice_that_diverges_fails_alone(cli):
    code, out, err = cli("compare", *SMALL, "--optimizer", "sgd,sgd:lr=1e4,adagrad:lr=0.03")
    assert code == 1, err
    assert "sgd lr=10000, seed 0 could not be predicted: lr = 10000 diverges" in " ".join(out.split())
    assert "Failed as well: seed 1." in " ".join(out.split())
    assert "sgd lr=best – adagrad" in out


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["--optimizer", "sgd,adma"], "optimizer 'adma' is not known; did you mean"),
        (["--optimizer", "sgd"], "got 1 choice; expected"),
        (
            ["--optimizer", "sgd,adam", "--batch-size", "some"],
            "--batch-size is 'some'; expected sizes such as none,10",
        ),
        (["--optimizer", "sgd,adam", "--batch-size", "0"], "batch_size is 0"),
        (["--seeds", "1"], "a single seed where their differences are asked for"),
        (["--level", "2"], "level is 2.0; expected a number between 0 and 1"),
        (["--width", "wide"], "--hidden is 'wide'; expected widths"),
        (["--data", "digist"], "there is no data set 'digist'"),
    ],
)
def test_bad_input(cli, tokens, said):
    code, out, err = cli("compare", *tokens)
    assert code == 2
    assert out == ""
    assert said in err
    assert "Traceback" not in err
