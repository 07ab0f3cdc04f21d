"""Kernels in tiles on disk: resumed, refused, and predictions from them against those in memory."""

import json
import math
import os
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import whichmin as wm
from oracles.processes import ready
from whichmin.errors import InputError, MemoryPlanError, OptimizerError, OutputError, ResultError
from whichmin.kernels import tiles as tiles_module
from whichmin.kernels.cg import conjugate_gradients
from whichmin.kernels.stored import StoredSpectrum
from whichmin.kernels.tile_cholesky import SHIFTS, TileCholesky
from whichmin.kernels.tile_jobs import multiply
from whichmin.kernels.tiles import KernelTiles

pytest.importorskip("zarr")
SGD = torch.optim.SGD


def kernel(n=60, smallest=1e-4):
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    K = (Q * np.geomspace(1.0, smallest, n)) @ Q.T
    return (K + K.T) / 2


def stored(folder, K, outputs=1, tile=16, monkeypatch=None):
    """Tiles of a matrix."""
    if monkeypatch is not None:
        monkeypatch.setattr("whichmin.kernels.tiles.TILE", tile)
    tiles = KernelTiles.open(folder, len(K), outputs, torch.float64, "this")
    b = tiles.tile
    for i, j in tiles.missing():
        tiles.write(i, j, torch.from_numpy(K[i : i + b, j : j + b]))
    return tiles


@pytest.fixture
def setting(monkeypatch):
    """A network, a task with 24 outputs, and the bytes that hold its kernel but not what it is solved with."""
    monkeypatch.setattr("whichmin.kernels.tiles.TILE", 8)
    g = torch.Generator().manual_seed(0)
    X, X_test = torch.randn(12, 5, generator=g, dtype=torch.float64), torch.randn(4, 5, generator=g).double()
    y, y_test = torch.randn(12, 2, generator=g, dtype=torch.float64), torch.randn(4, 2, generator=g).double()
    model = wm.networks.MLP((5, 64, 2), seed=0, activation="tanh").double()
    return model, wm.Task(X, y, X_test, y_test)


def predicted(setting, optimizer, tmp_path, **given):
    """In memory and from tiles."""
    model, task = setting
    common = {"relinearize": "never"} | given
    inside = wm.predict(model, task, optimizer, **common)
    return inside, wm.predict(model, task, optimizer, memory=1, tiles=tmp_path / "K", **common)


@pytest.mark.parametrize(
    ("optimizer", "given"),
    [
        (partial(SGD, lr=0.2), {"steps": 200}),
        (partial(SGD, lr=0.2), {"until": 0.1}),
        (partial(SGD, lr=0.1, momentum=0.9), {"steps": 50}),
        (partial(SGD, lr=0.1), {"steps": 40, "batch_size": 3}),
        (partial(SGD, lr=0.1), {"flow": True, "steps": 30.5}),
        (partial(SGD, lr=0.1), {"steps": math.inf}),
    ],
    ids=str,
)
def test_predictions_are_those_of_the_kernel_in_memory(setting, tmp_path, optimizer, given):
    inside, outside = predicted(setting, optimizer, tmp_path, **given)
    assert outside.steps == inside.steps
    assert torch.allclose(outside.test, inside.test, atol=1e-5, rtol=0)
    assert torch.allclose(outside.train, inside.train, atol=1e-5, rtol=0)
    assert outside.terms.keys() == inside.terms.keys()
    assert all(torch.allclose(outside.terms[k], inside.terms[k], atol=1e-5, rtol=0) for k in inside.terms)
    assert outside.error == pytest.approx(inside.error, rel=1e-3)
    assert (outside.max_lr, outside.best_lr) == pytest.approx((inside.max_lr, inside.best_lr), rel=0.05)


def test_products_rows_and_the_diagonal(tmp_path, monkeypatch):
    K = kernel()
    tiles = stored(tmp_path, K, monkeypatch=monkeypatch)
    v = np.random.default_rng(1).standard_normal((60, 2))
    assert np.abs(multiply(tiles, v, None) - K @ v).max() < 1e-13
    assert np.abs(multiply(tiles, v[:, 0], None) - K @ v[:, 0]).max() < 1e-13
    assert np.abs(tiles[np.array([40, 3, 59])] - K[[40, 3, 59]]).max() < 1e-15
    assert np.abs(tiles.diagonal() - K.diagonal()).max() < 1e-15
    assert len(list((tmp_path / "tiles" / "c").rglob("*/*"))) == 10, "one of each pair of mirror images"


def test_a_tile_holds_whole_rows_of_the_data(tmp_path, monkeypatch):
    assert stored(tmp_path, kernel(), outputs=3, tile=16, monkeypatch=monkeypatch).tile == 15


def test_what_is_there_is_not_made_again(setting, tmp_path, monkeypatch):
    model, task = setting
    write, made = KernelTiles.write, []

    def some(self, i, j, values):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append((i, j, self.folder.name))
        write(self, i, j, values)

    def all_of_them(self, i, j, values):
        made.append((i, j, self.folder.name))
        write(self, i, j, values)

    monkeypatch.setattr(KernelTiles, "write", some)
    asked = {"steps": 5, "relinearize": "never", "memory": 1, "tiles": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        wm.predict(model, task, partial(SGD, lr=0.2), **asked)
    monkeypatch.setattr(KernelTiles, "write", all_of_them)
    wm.predict(model, task, partial(SGD, lr=0.2), **asked)
    kernel_tiles = [(i, j) for i, j, name in made if name == tmp_path.name]
    assert kernel_tiles == [(0, 0), (8, 0), (8, 8), (16, 0), (16, 8), (16, 16)]
    assert [(i, j) for i, j, name in made[6:]] == [(0, 0), (8, 0), (16, 0), (8, 8), (16, 8), (16, 16)], "the factor's"


def killed_at_its_sixth_tile(model, task, folder):
    """What a process of its own does."""
    tiles_module.TILE = 8
    write, count = KernelTiles.write, [0]

    def some(self, i, j, values):
        if count[0] == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1
        write(self, i, j, values)

    KernelTiles.write = some
    wm.predict(model, task, partial(SGD, lr=0.2), steps=200, relinearize="never", memory=1, tiles=folder)


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_process_that_is_killed_leaves_whole_tiles(setting, tmp_path):
    process = ready().Process(target=killed_at_its_sixth_tile, args=(*setting, tmp_path / "K"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "K" / "tiles" / "c").rglob("*") if f.is_file()}
    assert len(before) == 5
    inside, outside = predicted(setting, partial(SGD, lr=0.2), tmp_path, steps=200)
    assert torch.allclose(outside.test, inside.test, atol=1e-5, rtol=0)
    assert all(f.stat().st_mtime_ns == made for f, made in before.items())


def test_another_kernel_is_refused(setting, tmp_path):
    model, task = setting
    given = {"steps": 5, "relinearize": "never", "memory": 1, "tiles": tmp_path / "K"}
    wm.predict(model, task, partial(SGD, lr=0.2), **given)
    other = wm.networks.MLP((5, 64, 2), seed=1, activation="tanh").double()
    with pytest.raises(InputError, match="holds the kernel of another network or other inputs"):
        wm.predict(other, task, partial(SGD, lr=0.2), **given)
    fewer = wm.Task(task.X[:11], task.y[:11], task.X_test, task.y_test)
    with pytest.raises(InputError, match="n = 24, not 22"):
        wm.predict(model, fewer, partial(SGD, lr=0.2), **given)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not empty and holds no kernel"):
        wm.predict(model, task, partial(SGD, lr=0.2), **given | {"tiles": tmp_path / "other"})


def test_tiles_that_were_changed_are_noticed(setting, tmp_path):
    model, task = setting
    given = {"steps": 5, "relinearize": "never", "memory": 1, "tiles": tmp_path / "K"}
    wm.predict(model, task, partial(SGD, lr=0.2), **given)
    for file in (tmp_path / "K" / "tiles" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes((2 * np.frombuffer(file.read_bytes())).tobytes())
    with pytest.raises(ResultError, match="are not what the network says"):
        wm.predict(model, task, partial(SGD, lr=0.2), **given)


def test_what_does_not_fit_is_refused(setting, tmp_path, monkeypatch):
    model, task = setting
    with pytest.raises(MemoryPlanError, match=r"more than memory = 1 B. Pass tiles=FOLDER"):
        wm.predict(model, task, partial(SGD, lr=0.2), steps=5, memory=1)
    full = type("usage", (), {"free": 1000})
    monkeypatch.setattr("whichmin.kernels.tiles.shutil.disk_usage", lambda path: full)
    with pytest.raises(MemoryPlanError, match=r"on disk and 1000 B are free in .* at most 5 training points"):
        predicted(setting, partial(SGD, lr=0.2), tmp_path, steps=5)


def test_a_full_disk_keeps_what_is_there(setting, tmp_path, monkeypatch):
    write, count = KernelTiles.write, [0]

    class Full:
        """An array on a disk that is full."""

        def __setitem__(self, key, value):
            raise OSError(28, "No space left on device")

    def some(self, i, j, values):
        count[0] += 1
        if count[0] > 3:
            object.__setattr__(self, "array", Full())
        write(self, i, j, values)

    monkeypatch.setattr(KernelTiles, "write", some)
    with pytest.raises(OutputError, match=r"No space left on device\. What is there is kept"):
        predicted(setting, partial(SGD, lr=0.2), tmp_path, steps=5)
    monkeypatch.setattr(KernelTiles, "write", write)
    inside, outside = predicted(setting, partial(SGD, lr=0.2), tmp_path, steps=5)
    assert torch.allclose(outside.test, inside.test, atol=1e-6)


def test_what_tiles_do_not_serve(setting, tmp_path):
    model, task = setting
    with pytest.raises(InputError, match='relinearize="never"'):
        wm.predict(model, task, partial(SGD, lr=0.2), steps=5, tiles=tmp_path / "K")
    with pytest.raises(OptimizerError, match="known in function space, and Adam is not"):
        predicted(setting, torch.optim.Adam, tmp_path, steps=5)
    huber = wm.Task(task.X, task.y, task.X_test, task.y_test, loss=torch.nn.HuberLoss())
    with pytest.raises(MemoryPlanError, match="need the kernel of 24 outputs in memory"):
        predicted((model, huber), partial(SGD, lr=0.2), tmp_path, steps=5)
    for bad in ("much", -1, "0", "3 XB"):
        with pytest.raises(InputError, match=r"expected a number of bytes, or a text such as"):
            wm.predict(model, task, partial(SGD, lr=0.2), steps=5, memory=bad)


def test_sizes_are_read(setting):
    model, task = setting
    for size in (1e9, "1e9", "1 GiB", "1GB", "1024m", "1t"):
        assert wm.predict(model, task, partial(SGD, lr=0.2), steps=1, relinearize="never", memory=size).steps == 1


def test_an_older_store_says_its_version(setting, tmp_path):
    predicted(setting, partial(SGD, lr=0.2), tmp_path, steps=5)
    description = tmp_path / "K" / "kernel.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"whichmin": "0.0.1"}))
    with pytest.raises(InputError, match=r"the kernel of version 0\.0\.1"):
        predicted(setting, partial(SGD, lr=0.2), tmp_path, steps=5)


@pytest.mark.parametrize("tile", [150, 40, 16])
def test_the_factor_on_disk_is_choleskys(tmp_path, monkeypatch, tile):
    K = kernel(150, 1e-3)
    tiles = stored(tmp_path, K, tile=tile, monkeypatch=monkeypatch)
    factor = TileCholesky.of(tiles, 1.0, progress=False)
    shift = SHIFTS[0] * np.finfo(float).eps
    b = np.random.default_rng(2).standard_normal((150, 3))
    assert np.abs(factor(b) - np.linalg.solve(K + shift * np.eye(150), b)).max() < 1e-10
    L = np.linalg.cholesky(K + shift * np.eye(150))
    for i, j in tiles.lower:
        part = L[i : i + tile, j : j + tile]
        assert np.abs(factor.factor.read(i, j).numpy() - part).max() < 1e-11
    assert not tiles.missing(), "the kernel itself is not touched"
    assert np.abs(multiply(tiles, b, None) - K @ b).max() < 1e-12


def test_a_factor_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    tiles = stored(tmp_path, kernel(60), monkeypatch=monkeypatch)
    write, made = KernelTiles.write, []

    def some(self, i, j, values):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append((i, j))
        write(self, i, j, values)

    monkeypatch.setattr(KernelTiles, "write", some)
    with pytest.raises(KeyboardInterrupt):
        TileCholesky.of(tiles, 1.0, progress=False)
    monkeypatch.setattr(KernelTiles, "write", lambda *args: (made.append(args[1:3]), write(*args)))
    factor = TileCholesky.of(tiles, 1.0, progress=False)
    assert made == [(i, j) for j in range(0, 60, 16) for i in range(j, 60, 16)], "each once, column by column"
    assert np.abs(factor(kernel(60)) - np.eye(60)).max() < 1e-8


def test_of_a_rounded_kernel_a_larger_shift_is_taken(tmp_path, monkeypatch):
    """Rounding makes small eigenvalues negative: 10 ε λ_max are not always enough, and what failed is taken away."""
    K = kernel(60, 1e-3) - 3e-5 * np.eye(60) * (np.arange(60) > 40)
    K -= (np.linalg.eigvalsh(K)[0] + 5e-6) * np.eye(60)  # smallest eigenvalue: −5e-6
    monkeypatch.setattr("whichmin.kernels.tiles.TILE", 16)
    tiles = KernelTiles.open(tmp_path, 60, 1, torch.float32, "this")
    for i, j in tiles.missing():
        tiles.write(i, j, torch.from_numpy(K[i : i + 16, j : j + 16]).float())
    factor = TileCholesky.of(tiles, 1.0, progress=False)
    assert factor.factor.folder.name == "factor-100"
    assert not (tmp_path / "factor-10").exists()


def test_conjugate_gradients_with_a_factor_take_few_products(tmp_path, monkeypatch):
    """In single precision the factor is off by ε·condition; conjugate gradients take that away in double precision."""
    K = kernel(150, 1e-6)
    monkeypatch.setattr("whichmin.kernels.tiles.TILE", 75)
    tiles = KernelTiles.open(tmp_path, 150, 1, torch.float32, "this")
    for i, j in tiles.missing():
        tiles.write(i, j, torch.from_numpy(K[i : i + 75, j : j + 75]).float())
    B, made = np.random.default_rng(2).standard_normal((150, 3)), []

    def apply(v):
        made.append(1)
        return multiply(tiles, v, None)

    X, missed = conjugate_gradients(apply, B, TileCholesky.of(tiles, 1.0, progress=False), 1e-8, 200)
    left = np.linalg.norm(B - multiply(tiles, X, None), axis=0) / np.linalg.norm(B, axis=0)
    assert missed == pytest.approx(left.max(), rel=1e-6)
    assert missed < 1e-8
    assert len(made) < 40
    made.clear()
    conjugate_gradients(apply, B, lambda v: v, 1e-8, 200)
    assert len(made) > 150, "without it"


def test_an_indefinite_kernel_is_refused(tmp_path, monkeypatch):
    K = kernel(60)
    K -= 0.1 * np.eye(60)
    spectrum = StoredSpectrum.on_disk(stored(tmp_path, K, monkeypatch=monkeypatch), 1.0)
    with pytest.raises(wm.errors.WhichminError, match=r"cannot be inverted|positive"):
        spectrum.solve(np.ones(60))
    assert not list(tmp_path.glob("factor*"))


def test_a_stored_kernel_that_is_singular_is_refused(tmp_path, monkeypatch):
    K = kernel(60)
    K[:, 7], K[7] = K[:, 8], K[8]
    K[7, 7] = K[8, 8]
    spectrum = StoredSpectrum.on_disk(stored(tmp_path, K, tile=40, monkeypatch=monkeypatch), 1.0)
    b = np.zeros(60)
    b[7], b[8] = 1.0, -1.0
    with pytest.raises(wm.errors.SingularKernelError, match="cannot be inverted"):
        spectrum.solve(b)
    assert spectrum.diagonal == pytest.approx(K.diagonal())
    assert spectrum.rank == 60
    assert Path(tmp_path).exists()


@pytest.mark.parametrize("width", [3, 20])
def test_steps_of_fewer_parameters_than_outputs(tmp_path, width):
    """The kernel is singular: its inverse is in the terms alone, which are left out."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 1)).double()
    X, others = torch.randn(150, 4, dtype=torch.float64), torch.randn(20, 4, dtype=torch.float64)
    task = wm.Task(X, torch.sin(X[:, :1]), others)
    common = {"optimizer": partial(SGD, lr=0.05), "steps": 100, "relinearize": "never"}
    found = wm.predict(model, task, memory=1, tiles=tmp_path / "K", **common)
    inside = wm.predict(model, task, **common)
    torch.testing.assert_close(found.test, inside.test, rtol=0, atol=1e-10)
    assert found.terms == {}
    assert set(inside.terms) == {"interpolant", "initialization", "unconverged"}
    notes = " ".join(found.notes)
    assert "no terms: the kernel of 150 training outputs cannot be inverted" in notes
    assert "rank 150" not in notes
    assert "terms={}" in repr(found)
    assert "interpolant" not in found.to_frame()
