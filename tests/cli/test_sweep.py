"""``whichmin sweep``: its table, its status, and what it refuses."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from whichmin.jobs import clusters

GRID = "width = [8, 16]\nn_train = 12\nn_test = 8\nuntil = 5e-2\noptimizer = 'sgd:lr=0.5'\nseeds = 2\n"


@pytest.fixture
def sweep(cli, tmp_path):
    """Run the command on a small grid, in this process."""
    (tmp_path / "grid.toml").write_text(GRID)
    return lambda *tokens: cli("sweep", "grid.toml", "--store", "store", "--workers", "0", *tokens)


def test_status_table_and_file(sweep, tmp_path):
    code, out, _ = sweep("--status")
    assert (code, out.split()) == (0, ["done", "running", "failed", "left", "0", "0", "0", "4"])
    assert not (tmp_path / "store").exists()
    code, out, err = sweep("--csv", "table.csv")
    assert code == 0, err
    assert "4 runs of 4 cells" in " ".join(out.split())
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[0].startswith("width,n_train,n_test,until,optimizer,initialization,learning_rate,method")
    assert len(lines) == 5
    _, out, _ = sweep("--status", "--json")
    said = json.loads(out)
    counts = {"done": 4, "running": 0, "failed": 0, "left": 0}
    assert {name: said[name] for name in (*counts, "failures")} == counts | {"failures": []}
    (part,) = said["sweeps"]
    assert part == counts | {"grid": "width=8,16 n_train=12 n_test=8 until=0.05 optimizer=sgd:lr=0.5 seeds=0,1"}
    _, out, _ = sweep()
    assert "4 of 4 runs were finished before and read back." in out
    code, out, _ = sweep("--json", "--train")
    rows = json.loads(out)["rows"]
    assert json.loads(out)["reused"] == 4
    assert [(row["width"], row["initialization"]) for row in rows] == [(8, 0), (8, 1), (16, 0), (16, 1)]
    assert all(row["train_loss_trained"] < 5e-2 for row in rows)


def test_status_from_the_store_alone(sweep, cli, tmp_path):
    code, _, err = cli("sweep", "--status", "--store", "store")
    assert (code, "store does not say what was asked of it" in err) == (2, True)
    sweep()
    (tmp_path / "grid.toml").unlink()
    code, out, _ = cli("sweep", "--status", "--store", "store")
    assert (code, out.split()[:8]) == (0, ["done", "running", "failed", "left", "4", "0", "0", "0"])
    more = ("--hidden", "8", "--n-train", "12", "--n-test", "8", "--until", "5e-2", "--lr", "1e3", "--seeds", "1")
    code, _, err = cli("sweep", *more, "--store", "store", "--workers", "0")
    assert code == 1, err
    code, out, _ = cli("sweep", "--status", "--store", "store")
    said = " ".join(out.split())
    assert said.startswith("done running failed left 4 0 1 0")
    assert "optimizer=sgd:lr=0.5 seeds=0,1: 4 done, 0 running, 0 failed, 0 left" in said
    assert "seeds=0: 0 done, 0 running, 1 failed, 0 left" in said
    assert "failed: initialization=0, predicted: lr = 1000 diverges" in said


def test_options_are_axes(sweep, cli):
    code, out, err = sweep("--hidden", "6,8-8", "--scale", "1", "--status")
    assert (code, "got width and hidden" in err) == (2, True)
    _, out, _ = sweep("--scale", "0.5,1", "--seeds", "3", "--lr", "0.1,0.2", "--status")
    assert out.split()[-1] == str(2 * 2 * 3 * 2)
    axes = ("--hidden", "6,8-8", "--batch-size", "none,4", "--seeds", "0,3", "--n-train", "12", "--n-test", "8")
    code, out, err = cli("sweep", *axes, "--until", "5e-2", "--workers", "0", "--lr", "0.5", "--json")
    assert code == 0, err
    rows = [(row["hidden"], row["batch_size"], row["initialization"]) for row in json.loads(out)["rows"]]
    assert rows == [(layers, size, seed) for layers in ("6", "8-8") for size in (None, 4) for seed in (0, 3)]
    code, _, err = cli("sweep")
    assert (code, "name a file of the grid, or its axes by options" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "tokens", "said"),
    [
        ("", (), "grid.toml has nothing in it"),
        ("scale = []", (), "scale is an empty list"),
        ("data_seed = [1, 2]\nseeds = 500000", (), "the grid has 1,000,000 cells (2 data_seed × 500000 seeds)"),
        (GRID, ("--dask", "local", "--slurm"), "got --dask and --slurm"),
        (GRID, ("--slurm-set", "timeout_min=3"), "pass --slurm as well"),
        (GRID, ("--slurm", "--slurm-set", "timeout"), "expected name=value"),
        (GRID, ("--slurm",), "Slurm cannot be used here"),
        (GRID, ("--dask", "nonsense://x"), "no Dask scheduler answers at 'nonsense://x'"),
    ],
    ids=["empty", "empty axis", "a million", "two places", "settings", "a setting", "no slurm", "no address"],
)
def test_bad_input(cli, tmp_path, text, tokens, said):
    (tmp_path / "grid.toml").write_text(text)
    code, out, err = cli("sweep", "grid.toml", "--store", "store", *tokens)
    assert (code, out) == (2, "")
    assert said in err.replace("\n", " ")


@pytest.fixture(params=["nothing", "silence", "web"])
def elsewhere(request):
    """An address at which there is no scheduler: nothing listens there, or what does is none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        if request.param == "silence":
            yield address
        if request.param == "web":
            thread = threading.Thread(target=_answer_as_the_web, args=(server,))
            thread.start()
            yield address
            thread.join()
    if request.param == "nothing":
        yield address


def _answer_as_the_web(server):
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(1)


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer(sweep, elsewhere, monkeypatch):
    pytest.importorskip("distributed")
    assert clusters.ANSWERS_IN < 10
    monkeypatch.setattr(clusters, "ANSWERS_IN", 0.5)
    code, _, err = sweep("--dask", elsewhere)
    assert code == 2
    assert f"no Dask scheduler answers at '{elsewhere}' within 0.5 s" in " ".join(err.split())
