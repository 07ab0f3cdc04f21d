"""The check of the documentation's numbers finds what is written by hand, and only that."""

from __future__ import annotations

import inspect
import sys

import check_numbers
import figures
import pytest


@pytest.mark.parametrize(
    "text",
    [
        "It is 42 of them.",
        "off by 0.05",
        "five times faster",
        "after 3 s",
        "within 5 %",
        "some eighty training steps",
        "a few thousandths of seconds",
        "| way | cost |\n|---|---|\n| path | 7.6 × |",
        "- a point\n\n  of 1,024 of them",
        "![off by 0.05](picture.svg)",
        '<picture>\n<img alt="off by 0.05" src="picture.svg">\n</picture>',
        "```{note}\nin 12 seconds\n```",
        "```{image} picture.svg\n:alt: off by 0.05\n```",
        "just `0.05` of it",
        "in `3 s`",
    ],
)
def test_a_number_by_hand_is_found(text):
    (found,) = check_numbers.by_hand("page.md", f"# Title\n\n{text}\n")
    assert found.page == "page.md"
    assert 3 <= found.line <= 5


@pytest.mark.parametrize(
    "text",
    [
        "γ = 2/(N·C), at 1/4 < a ≤ 1/2",
        "classes 3 and 8, images of 8 × 8",
        "CIFAR-10 in float64, of Python 3.11 or later",
        "[arXiv 2011.02408](https://arxiv.org/abs/2011.02408), Thm. 3.1 and §4",
        "`--hidden 600-600`, exit code `130`",
        "    wm.seeds(make, task, optimizer, 100)",
        "```python\nwm.seeds(make, task, optimizer, 100)\n```",
        "```{code-cell}\nwm.seeds(make, task, optimizer, 100)\n```",
        "[a page](of-2048.md)",
        "two commands, one of which is run",
        "cost <!-- =batch_step -->8 to 15 µs<!-- / --> a step",
        "<!-- =batch_step -->\n\n| 8 µs |\n\n<!-- / -->",
    ],
)
def test_what_may_be_written_by_hand(text):
    assert list(check_numbers.by_hand("page.md", f"---\nwidth: 2048\n---\n# Title\n\n{text}\n")) == []


@pytest.mark.parametrize(
    "text",
    [
        "takes 0.1 ms",
        "some 10 ms per flow",
        "about 6 ms of a core",
        "twenty times faster",
        "3 × as fast as",
        "40 % of training",
        "a kernel takes 5 s on two cores",
        "some dozen\n    seconds for a kernel",
    ],
)
def test_a_measurement_in_a_docstring_is_found(text):
    (found,) = check_numbers.in_docstrings(
        "m.py", f'X = 1\n\n\ndef f():\n    """First.\n\n    Cost: {text}.\n    """\n'
    )
    assert (found.page, found.line) == ("m.py", 5)


@pytest.mark.parametrize(
    "text",
    [
        "O((N·C)³)",
        "1,024 times the limit",
        "no answer within ten seconds",
        "longer than two seconds",
        "fell by 0.01 %",
        "E[φφ] = (2/π) arctan(2S/√R)",
        "a text such as ``'6 GiB'``",
        "512 outputs",
        "three times its parameters",
        "a million times what it was",
    ],
)
def test_what_a_docstring_may_say(text):
    assert list(check_numbers.in_docstrings("m.py", f'"""Module: {text}."""\n')) == []


def test_lines_are_those_of_the_page():
    text = "---\na: 1\n---\n# Title\n\nfirst <!-- =default_seeds -->three\n<!-- / -->\nlast 42\n\n- item\n\n  of 43\n"
    assert [found.line for found in check_numbers.by_hand("page.md", text)] == [8, 12]


def test_what_is_stored_goes_to_the_page():
    text = "It takes <!-- =dense_limit -->7<!-- / --> of them."
    (found,) = check_numbers.stale("page.md", text)
    assert "stored is '512'" in str(found)
    assert str(found).startswith("page.md:1: ")
    fresh = check_numbers.written(text)
    assert fresh == "It takes <!-- =dense_limit -->512<!-- / --> of them."
    assert list(check_numbers.stale("page.md", fresh)) == []


@pytest.mark.parametrize("name", ["no_such_figure", "json", "ROOT"])
def test_a_name_without_a_function(name):
    (found,) = check_numbers.stale("page.md", f"of <!-- ={name} -->7<!-- / -->")
    assert f"has no {name!r}" in str(found)
    with pytest.raises(KeyError, match=name):
        check_numbers.value(name)


def test_a_marker_that_markdown_would_not_show():
    (found,) = check_numbers.stale("page.md", "of\n<!-- =dense_limit -->512<!-- / --> outputs")
    assert "begins a line" in found.what
    assert found.line == 2


def test_every_figure_stands_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in check_numbers.pages())
    quoted = {match["name"] for match in check_numbers.GENERATED.finditer(text)}
    helpers = {"stored", "span"}
    there = {name for name, f in vars(figures).items() if inspect.isfunction(f) and f.__module__ == "figures"}
    assert there - helpers == quoted


def test_the_documentation_has_no_number_by_hand(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check_numbers.py"])
    assert check_numbers.main() == 0, capsys.readouterr().err


def test_the_check_fails_with_file_and_line(monkeypatch, tmp_path, capsys):
    for folder in ("docs", "benchmarks", "src"):
        (tmp_path / folder).mkdir()
    (tmp_path / "src" / "module.py").write_text('"""Takes 3 ms."""\n', encoding="utf-8")
    (tmp_path / "benchmarks" / "README.md").write_text("In 5 s.\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("# Title\n\n42 of <!-- =dense_limit -->7<!-- / -->.\n", encoding="utf-8")
    monkeypatch.setattr(check_numbers, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["check_numbers.py"])
    assert check_numbers.main() == 1
    said = capsys.readouterr().err
    assert said.count("README.md:3: ") == 2
    assert said.count("benchmarks/README.md:1: ") == 1
    assert said.count("src/module.py:1: '3 ms'") == 1
    monkeypatch.setattr(sys, "argv", ["check_numbers.py", "--write"])
    assert check_numbers.main() == 1, "a number by hand is not mended by writing"
    assert "-->512<!-- / -->" in (tmp_path / "README.md").read_text(encoding="utf-8")
