from __future__ import annotations

import json

import pytest

#: A problem that trains in a blink: ten points of each digit, a narrow network, a coarse aim.
SMALL = ["--hidden", "64", "--n-train", "20", "--n-test", "10", "--until", "3e-2", "--dtype", "float64"]


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder: (exit code, standard output, standard error)."""
    from whichmin.cli.main import main

    monkeypatch.chdir(tmp_path)

    def call(*tokens: str) -> tuple[int, str, str]:
        code = main(list(tokens))
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def cli_json(cli, undrawn):
    """Run a command line with --json and a small problem, and read its one object; nothing is drawn."""

    def call(*tokens: str) -> dict:
        code, out, err = cli(*tokens, *SMALL, "--seeds", "1", "--json")
        assert code == 0, err
        return json.loads(out)

    return call
