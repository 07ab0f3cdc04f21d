"""Standard output of any encoding, and closed early."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys

import pytest

from whichmin._version import __version__
from whichmin.cli import streams
from whichmin.cli.main import UNREAD, main
from whichmin.tangent.layers.dense import Dense

TEXT = "−1.02×10⁻⁵ ± 3, “é” – Θ̂ ≥ γ … ²"


def run(*tokens: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """``python -m whichmin`` in a process of its own."""
    command = [sys.executable, "-m", "whichmin", *tokens]
    return subprocess.run(command, capture_output=True, env=os.environ | environment, check=False)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", TEXT),
        ("ascii", '-1.02x10^-5 +/- 3, "e" - Theta >= gamma ... ^2'),
        ("cp1252", "-1.02×10^-5 ± 3, “é” – Theta >= gamma … ²"),
    ],
)
def test_what_an_encoding_does_not_have_is_spelled(encoding, text, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    streams.prepare()
    stream.write(TEXT)
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding) == text


def test_superscripts_go_on_where_an_encoding_has_some_of_them(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    streams.prepare()
    stream.write("10⁻³⁵ 10⁵ 字")
    stream.flush()
    assert stream.buffer.getvalue().decode("latin-1") == "10^-³5 10^5 ?"


LINEAR = ("linear", "--n-train", "4", "--inputs", "6", "--outputs", "2", "--hidden", "20")


def test_a_module_that_runs_in_an_encoding_of_few_characters(tmp_path):
    done = run(*LINEAR, "--out", str(tmp_path), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert f"report: {tmp_path / 'linear.html'}" in done.stdout.decode("ascii")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_command_writes_in_any_encoding(encoding, tmp_path, monkeypatch):
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main([*LINEAR, "--out", str(tmp_path)]) == 0
    out.flush()
    err.flush()
    said = out.buffer.getvalue().decode(encoding)
    assert f"report: {tmp_path / 'linear.html'}" in said
    assert "Theta" in said
    assert b"Traceback" not in err.buffer.getvalue()


def test_the_module_is_the_command_line():
    assert run("--version").stdout.decode().strip() == __version__
    assert run("explode").returncode == 2


def test_output_that_nobody_reads_ends_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        code = "import sys; from whichmin.cli import main; main.build_app = lambda named: Loud()\n"
        code += "class Loud:\n    def meta(self, tokens, **_): print('said ' * 10_000)\n"
        code += "sys.exit(main.main(['explain']))"
        done = subprocess.run([sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert done.returncode == UNREAD
    assert done.stderr == b""


SMALL = ("--hidden", "8", "--n-train", "8", "--n-test", "4", "--seeds", "1", "--until", "1e-1")


@pytest.mark.parametrize("tokens", [("-v", "predict"), ("predict", "--verbose")])
def test_the_log_is_shown_where_it_is_asked_for(cli, undrawn, tokens):
    logger = logging.getLogger("whichmin")
    before = logger.level, list(logger.handlers)
    _, out, err = cli("predict", *SMALL, "--out", "silent")
    assert "whichmin.dynamics" not in out + err
    code, out, err = cli(*tokens, *SMALL)
    assert code == 0, err
    assert "whichmin.dynamics.predict: " in err
    assert "whichmin.dynamics" not in out
    assert (logger.level, logger.handlers) == before


def test_warnings_of_the_log_are_shown_in_any_case(cli, undrawn, monkeypatch):
    real = Dense.add_gram
    monkeypatch.setattr(Dense, "add_gram", lambda self, K, u, v, weight, grams: real(self, K, u, v, 1.01, grams))
    code, _, err = cli("predict", *SMALL)
    assert code == 0, err
    assert err.startswith("whichmin.tangent.fallback: what layers say of ")


def test_a_shell_completes_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.delenv("BASH_VERSION", raising=False)
    monkeypatch.delenv("ZSH_VERSION", raising=False)
    assert main(["--install-completion", "--shell", "bash"]) == 0
    script = tmp_path / ".local" / "share" / "bash-completion" / "completions" / "whichmin"
    assert "--n-train" in script.read_text()
    assert str(script) in capsys.readouterr().out.replace("\n", "")
