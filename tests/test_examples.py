"""The README and the examples do what they say, in small."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    """Figures are drawn without a window, and gone after the test."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: None)
    yield plt.get_fignums
    plt.close("all")


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "quickstart",
        "own_network",
        "gradient_flow",
        "one_point_adagrad",
        "start_page_figure",
        "underparameterized",
        "your_own_loop",
        "sequence_classifier",
        "low_rank_adapters",
        "lightning_module",
    }


def test_the_readme_shows_two_commands_of_one_line():
    section = re.search(r"^## Two commands$(.*?)^## ", README, flags=re.MULTILINE | re.DOTALL).group(1)
    commands = re.findall(r"^```sh\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    assert len(commands) == len(blocks("sh")) == 2
    assert all(command.count("\n") == 1 for command in commands)
    assert "whichmin explain" in commands[0]
    assert "pytest" in commands[1]


def test_the_readme_shows_the_quickstart():
    (block,) = blocks("python")
    _, code = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8").split('"""\n\n', 1)
    assert block == code


def test_the_readme_names_files_that_are_there():
    named = re.findall(r"\]\((?!https?:)([^)#]+)\)", README) + re.findall(r'(?:src|srcset)="([^"]+)"', README)
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_commands_in_the_readme_parse(monkeypatch, tmp_path):
    from whichmin.cli import main as cli

    (tmp_path / "experiment.toml").write_text("n_train = 20\n")
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks("text") for line in block.splitlines()]
    assert len(lines) == 12
    for line in lines:
        name, *tokens = line.split()[1:]
        cli.build_app(name).parse_args([name, *tokens], exit_on_error=False, print_error=False)


def test_quickstart(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLES / "quickstart.py"), run_name="__main__")
    run, predicted, explained = found["run"], found["predicted"], found["explained"]
    assert run.converged
    torch.testing.assert_close(explained.total, run.test.double(), rtol=0, atol=1e-5)
    distance = float((predicted.test - run.test).square().mean().sqrt())
    assert distance < 0.02 * float(run.task.y.std())
    assert predicted.relative_error <= 1e-2
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "linearizations" in capsys.readouterr().out


def test_own_network(capsys, figures):
    example("own_network").main(n=8, until=3e-2)
    said = capsys.readouterr().out
    assert said.count("steps of training") == 2
    for line in re.findall(r"(\S+) from the prediction", said):
        assert float(line) < 0.05
    assert len(figures()) == 2


def test_gradient_flow(capsys, figures):
    example("gradient_flow").main(widths=(64, 1024), n=12, intervals=8)
    rows = [line.split("|")[1:] for line in capsys.readouterr().out.splitlines()[2:]]
    narrow, wide = ([float(cell) for cell in row] for row in rows)
    assert narrow == sorted(narrow)
    assert wide[-1] < 0.5 * narrow[-1]
    assert len(figures()) == 1


def test_one_point_adagrad(capsys, figures):
    example("one_point_adagrad").main(widths=(64, 1024))
    rows = [line.split("|")[1:] for line in capsys.readouterr().out.splitlines()[2:]]
    (apart, *narrow), (far, *wide) = ([float(cell) for cell in row] for row in rows)
    assert min(apart, far) > 0.03
    assert all(b < 0.5 * a for a, b in zip(narrow, wide, strict=True))
    assert max(wide) < 0.1 * far
    assert len(figures()) == 1


def test_underparameterized(capsys, figures):
    """Two of the four optimizers, which are those of ``tests/integration/test_underparameterized.py``."""
    module = example("underparameterized")
    assert set(module.OPTIMIZERS) == {"SGD", "momentum", "AdaGrad", "Adam"}
    module.OPTIMIZERS = {name: module.OPTIMIZERS[name] for name in ("momentum", "Adam")}
    module.main(steps=7000)
    over, under = capsys.readouterr().out.split("120 training points")
    assert "note: underparameterized: 60 parameters for 120 training outputs" in under
    far, near = (dict(re.findall(r"(\S+) +ends (\S+) from the prediction", part)) for part in (over, under))
    assert set(far) == set(near) == set(module.OPTIMIZERS)
    assert max(float(d) for d in near.values()) < 1e-6
    assert float(far["momentum"]) < 1e-6
    assert float(far["Adam"]) > 0.3
    assert len(figures()) == 1


def test_start_page_figure(tmp_path):
    figure = example("start_page_figure")
    figure.main(str(tmp_path), width=64, n=20, until=1e-2)
    assert set(figure.THEMES) == {"light", "dark"}
    for theme, colours in figure.THEMES.items():
        picture = (tmp_path / f"picture-{theme}.svg").read_text(encoding="utf-8")
        assert colours[0] in picture
        assert "<svg" in picture


def test_your_own_loop(capsys, figures):
    example("your_own_loop").main(width=128, epochs=20)
    said = capsys.readouterr().out
    assert "trajectory" in said
    assert said.count("training loss") >= 2
    assert len(figures()) == 1


@pytest.mark.parametrize(
    ("name", "needed", "settings"),
    [
        ("sequence_classifier", ("transformers",), {"steps": 5}),
        ("low_rank_adapters", ("transformers", "peft"), {"steps": 3}),
        ("lightning_module", ("lightning",), {"epochs": 2}),
    ],
)
def test_models_of_other_libraries(name, needed, settings, monkeypatch, capsys):
    for package in needed:
        pytest.importorskip(package)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    example(name).main(**settings)
    said = capsys.readouterr().out
    assert "interpolant" in said
    assert "accuracy" in said
