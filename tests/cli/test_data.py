"""``whichmin data``, on a loopback server."""

from __future__ import annotations

import json

import numpy as np
import pytest

from data.conftest import write_pair
from data.server import serving
from whichmin.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WHICHMIN_DATA", str(tmp_path))
    write_pair(tmp_path / "mnist", "t10k", np.repeat([0, 1], 5), suffix=".gz")
    return tmp_path


def test_list(folder, capsys):
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert f"mnist: handwritten digits, 60,000 + 10,000 images of 28×28; {folder / 'mnist'}\n" in said
    assert "cifar-10: photographs, 50,000 + 10,000 images of 3×32×32; not there: whichmin data fetch cifar-10" in said
    assert main(["data", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sets"] == {"mnist": str(folder / "mnist"), "fashion-mnist": None, "cifar-10": None}


def test_check(folder, capsys):
    assert main(["data", "check"]) == 0
    said = capsys.readouterr().out
    assert "missing  mnist: train-images-idx3-ubyte.gz" in said
    assert "10 examples, not the published file" in said
    assert main(["data", "check", "mnist", "--json"]) == 1, "a file of a named set is missing"
    states = json.loads(capsys.readouterr().out)["sets"]["mnist"]
    assert [state["state"] for state in states] == ["missing", "missing", "read", "read"]
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bno")
    assert main(["data", "check"]) == 1


def test_nothing_there(tmp_path, capsys):
    assert main(["data", "check", "--folder", str(tmp_path)]) == 0
    assert "no data sets in" in capsys.readouterr().out


def test_fetch_says_what_it_could_not_get(tmp_path, capsys, monkeypatch):
    pytest.importorskip("pooch")
    from dataclasses import replace

    from whichmin.data import catalogue

    known = replace(catalogue.CATALOGUE["mnist"], mirrors=("http://127.0.0.1:9/",))
    monkeypatch.setitem(catalogue.CATALOGUE, "mnist", known)
    with serving() as server:
        assert main(["data", "fetch", "mnist", "--folder", str(tmp_path), "--mirror", server.address]) == 2
        said = capsys.readouterr().err
        assert f"{server.address}train-images-idx3-ubyte.gz: HTTP 404" in said
        assert f"into {tmp_path / 'mnist'}" in said


def test_bad_input(capsys):
    assert main(["data", "fetch", "minst"]) == 2
    assert "known are mnist, fashion-mnist, cifar-10" in capsys.readouterr().err
    assert main(["data", "fetch", "openml:61", "--mirror", "http://127.0.0.1:9/"]) == 2
    assert "leave --folder and --mirror out" in capsys.readouterr().err
