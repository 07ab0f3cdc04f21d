"""The command line's frame: help, options, errors and exit codes; what needs no network."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from whichmin._version import __version__
from whichmin.cli.main import COMMANDS
from whichmin.cli.options import Question
from whichmin.errors import TrainingError
from whichmin.studies.experiment.config import Experiment

NAMES = [name for name, *_ in COMMANDS]


def test_help_does_not_import_torch():
    calls = [["--help"], [], ["--version"], *([name, "--help"] for name in NAMES)]
    code = "import sys; from whichmin.cli.main import main\n"
    code += f"for tokens in {calls!r}:\n    code = main(tokens)\n"
    code += "    print('\\0', code, 'torch' in sys.modules, end='\\0')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *said, nothing = done.stdout.split("\0")
    assert nothing == ""
    assert said[1::2] == [" 0 False"] * len(calls)
    for tokens, out in zip(calls, said[::2], strict=True):
        assert (__version__ if tokens == ["--version"] else "Usage: whichmin") in out


def test_help_lists_the_commands(cli):
    _, out, _ = cli("--help")
    for name in NAMES:
        assert name in out


def test_every_field_of_an_experiment_has_an_option():
    options = {field.name for field in dataclasses.fields(Question)}
    assert options - {"config"} == {field.name for field in dataclasses.fields(Experiment)} - {"train"}


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["explode"], 'Unknown command "explode"'),
        (["explain", "--hiden", "3"], "Unknown option: --hiden. Did you mean --hidden?"),
        (["explain", "--seeds", "many"], "--seeds is 'many'; expected how many, such as 5, or their numbers"),
        (["explain", "--scale", "wide"], "--scale is 'wide'; expected a positive number, or several"),
        (["explain", "--scale", "1,1"], "scale has 1.0 twice; expected different values"),
        (["explain", "--hidden", "600,600"], "hidden has 600 twice; expected different values. Two layers of 600 are"),
        (["explain", "--hidden", "wide"], "--hidden is 'wide'; expected widths"),
        (["explain", "--lr", "fast"], "--lr is 'fast'; expected 'best', 'half', 'monotone' or a positive number"),
        (["explain", "--classes", "0"], "classes is (0,); expected two different classes"),
        (["explain", "--n-train", "0"], "n_train is 0; expected a whole number, 1 or more"),
        (["explain", "--config", "none.toml"], "cannot read none.toml: No such file"),
        (["explain", "--data", "digist"], "there is no data set 'digist'"),
        (["explain", "--n-train", "5000"], "digits has 360 examples of the classes 0, 1"),
        (["predict", "--no-train"], "Unknown option: --no-train"),
        (["linear", "--optimizer", "adam"], "linear follows gradient flow, which its bounds are about"),
        (["linear", "--lr=0.1"], "whichmin compare compares optimizers."),
        (["predict", "--model", "nowhere_at_all:make"], "importing nowhere_at_all failed"),
    ],
)
def test_bad_input_is_one_line_and_two(cli, tokens, said):
    code, out, err = cli(*tokens)
    lines = [line for line in err.replace("\r", "\n").splitlines() if "whichmin: error: " in line]
    assert code == 2
    assert out == ""
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in err


def test_the_command_line_wins_over_the_file(tmp_path):
    (tmp_path / "c.toml").write_text("n-train = 7\nseeds = 2\nhidden = [9]\n")
    question = Question(config=tmp_path / "c.toml", seeds="5", classes="3,8", lr="0.5")
    expected = Experiment(n_train=7, seeds=5, hidden=(9,), classes=(3, 8), lr=0.5, train=False)
    assert question.asked("explain", train=False).experiment == expected


def test_an_unknown_key_of_the_file(cli, tmp_path):
    (tmp_path / "c.json").write_text('{"sseds": 2}')
    code, _, err = cli("explain", "--config", "c.json")
    assert code == 2
    assert "c.json has the unknown key 'sseds'; did you mean 'seeds'?" in err


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_place_that_cannot_be_written_to_is_found_first(cli, tmp_path, monkeypatch, out):
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        "whichmin.studies.experiment.runner.build_task", lambda _: pytest.fail("computed before it looked")
    )
    code, _, err = cli("explain", "--out", out)
    assert code == 2
    assert f"whichmin: error: cannot write to {out}" in err


def test_work_that_fails_is_one(cli, monkeypatch):
    def fail(*_, **__):
        raise TrainingError("the loss is not finite at step 3", state={}, step=3, losses=[])

    monkeypatch.setattr("whichmin.studies.experiment.runner.train", fail)
    code, out, err = cli("explain", "--hidden", "8", "--n-train", "4", "--n-test", "4", "--until", "1e-1")
    assert code == 1
    assert out == ""
    assert "whichmin: error: the loss is not finite at step 3" in err
    assert "Traceback" not in err
