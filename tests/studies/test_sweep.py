"""Sweeps: what comes out, what is kept, and what of it is read again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import whichmin as wm
from whichmin.errors import ConfigError, DataError, InputError, ResultError, TrainingError
from whichmin.jobs.store import Store
from whichmin.studies.experiment.build import build_network, build_optimizer, build_task
from whichmin.studies.experiment.config import Experiment
from whichmin.studies.sweep_status import sweep_status
from whichmin.studies.sweeping import run as runs

TINY = {"n_train": 12, "n_test": 8, "until": 5e-2, "dtype": "float64", "optimizer": "sgd:lr=0.5"}
GRID = TINY | {"width": [16, 32], "seeds": 2}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A sweep, predicted and trained, and its store."""
    folder = tmp_path_factory.mktemp("kept")
    return wm.sweep(GRID, store=folder, train=True, workers=0), folder


@pytest.fixture
def asked(monkeypatch):
    """The verbs that are really called."""
    calls = []
    for name in ("predict", "train"):
        verb = getattr(runs, name)

        def call(*arguments, name=name, verb=verb, **options):
            calls.append(name)
            return verb(*arguments, **options)

        monkeypatch.setattr(runs, name, call)
    return calls


def test_a_row_for_each_cell(kept):
    frame = kept[0].to_frame()
    assert list(zip(frame["width"], frame["initialization"], strict=True)) == [(16, 0), (16, 1), (32, 0), (32, 1)]
    assert set(TINY) < set(frame.columns)
    assert not frame.isna().any().any()
    assert (frame["failure"] == "").all()
    assert (frame["train_loss_trained"] < 5e-2).all()


def test_its_numbers_are_those_of_the_verbs(kept):
    swept, _ = kept
    experiment = Experiment(**TINY | {"hidden": (32,)})
    task = build_task(experiment)
    model = build_network(experiment, task, 1)
    run = wm.train(model, task, build_optimizer(experiment.optimizer[0]), until=5e-2)
    row = swept.to_frame().iloc[3]
    assert row["steps_trained"] == run.steps
    assert row["test_loss_trained"] == pytest.approx(task.test_loss(run.test), rel=1e-9)
    assert row["accuracy_trained"] == task.accuracy(run.test)
    torch.testing.assert_close(swept.outputs("trained")[3], run.test)
    predicted = swept.outputs()[3]
    assert row["mse_to_trained"] == pytest.approx(float((predicted - run.test).square().mean()), abs=1e-12)
    assert row["test_loss_predicted"] == pytest.approx(task.test_loss(predicted), rel=1e-9)
    losses = swept.arrays(3, "trained")["curve_losses"]
    torch.testing.assert_close(losses, run.losses)


def test_it_is_read_back_to_the_byte(kept, asked):
    swept, folder = kept
    again = wm.sweep(GRID, store=folder, train=True, workers=0)
    assert not asked
    assert again.to_frame().to_csv() == swept.to_frame().to_csv()
    more = wm.sweep(GRID | {"width": [16, 32, 8]}, store=folder, workers=0)
    assert asked == ["predict"] * 2
    assert more.to_frame().iloc[:4]["test_loss_predicted"].tolist() == (
        swept.to_frame()["test_loss_predicted"].tolist()
    )


def test_a_sweep_left_in_peace_is_the_same_to_the_byte(kept, tmp_path):
    half = wm.sweep(GRID | {"width": [32]}, store=tmp_path, train=True, workers=0)
    assert len(half.cells) == 2
    whole = wm.sweep(GRID, store=tmp_path, train=True, workers=0)
    assert whole.to_frame().to_csv() == kept[0].to_frame().to_csv()


def test_the_store_says_what_was_asked(kept):
    swept, folder = kept
    names = {kind: [runs[kind].question.name for runs in swept.runs] for kind in ("predicted", "trained")}
    for kind, of_kind in names.items():
        assert len(set(of_kind)) == 4
        assert all(name.startswith(f"sweep-{kind}-") and (folder / "runs" / name).is_dir() for name in of_kind)
    config = json.loads((folder / "runs" / names["predicted"][0] / "config.json").read_text())
    assert set(config["question"]) == {"kind", "versions", "data", "code", "settings"}
    assert set(config["question"]["versions"]) == {"whichmin", "torch"}
    assert config["asked"]["data"] == "digits"
    assert config["asked"]["n_train"] == 12


@pytest.mark.parametrize(
    "change",
    [
        *({"scale": 0.9}, {"tol": 0.2}, {"until": 4e-2}, {"data_seed": 1}, {"n_test": 9}, {"bias": True}),
        *({"seeds": [2]}, {"batch_size": 4}, {"optimizer": "sgd:lr=0.4"}, {"loss": "huber"}, {"depth": 2}),
    ],
    ids=str,
)
def test_a_run_belongs_to_its_question(kept, change):
    status = sweep_status(GRID | {"seeds": [0], "width": 16} | change, store=kept[1])
    assert status.counts == (0, 0, 0, 1)


def test_trainings_do_not_depend_on_the_tolerance_of_predictions(kept):
    assert sweep_status(GRID | {"tol": 0.2}, store=kept[1], train=True).counts == (4, 0, 0, 4)


def test_the_place_of_the_data_does_not_matter(tmp_path, asked):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((12, 3)).astype("float32")
    for name, X_test in (("a", X[:4]), ("b", X[:4]), ("c", X[4:])):
        np.savez(tmp_path / f"{name}.npz", X=X, y=X[:, :1], X_test=X_test, y_test=X_test[:, :1])
    grid = {"seeds": 1, "width": 8, "optimizer": "sgd:lr=0.1", "until": 0.5, "n_train": 12, "n_test": 4}
    for name, count in (("a", 1), ("b", 1), ("c", 2)):
        wm.sweep(grid | {"data": str(tmp_path / f"{name}.npz")}, store=tmp_path / "store", workers=0)
        assert len(asked) == count


def test_data_that_change_meanwhile_are_found(tmp_path):
    from whichmin.studies.sweeping.data import data_of, known_task

    with pytest.raises(DataError, match="digits holds other data here than where the sweep was started"):
        known_task(data_of(Experiment(n_train=12)), "another")


def test_failures_are_kept_shown_and_tried_again_when_asked(tmp_path, monkeypatch, asked):
    def failing(*_, **__):
        asked.append("failed")
        raise TrainingError("the loss is not finite at step 3.", state={}, step=3, losses=[])

    good = runs.train
    monkeypatch.setattr(runs, "train", failing)
    grid = GRID | {"width": 16, "seeds": 1}
    for _ in range(2):
        swept = wm.sweep(grid, store=tmp_path, train=True, workers=0)
        assert swept.failures == ("initialization=0 could not be trained: the loss is not finite at step 3.",)
        assert swept.to_frame()["failure"].tolist() == ["trained: the loss is not finite at step 3."]
        assert asked == ["predict", "failed"]
    assert sweep_status(grid, store=tmp_path, train=True).counts == (1, 0, 1, 0)
    with pytest.raises(ResultError, match="has no trained run: it failed: the loss is not finite"):
        swept.arrays(0, "trained")
    assert "1 of which failed" in repr(swept)
    monkeypatch.setattr(runs, "train", good)
    assert wm.sweep(grid, store=tmp_path, train=True, workers=0).failures != ()
    assert wm.sweep(grid, store=tmp_path, train=True, workers=0, retry=True).failures == ()


def interrupt_third_prediction(monkeypatch):
    """Ctrl-C in the third prediction; returns the list that each of them grows."""
    good, calls = runs.predict, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return good(*arguments, **options)

    monkeypatch.setattr(runs, "predict", interrupted)
    return calls


def test_ctrl_c_leaves_finished_work(tmp_path, monkeypatch):
    calls = interrupt_third_prediction(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        wm.sweep(GRID, store=tmp_path, workers=0)
    assert sweep_status(GRID, store=tmp_path).counts == (2, 0, 0, 2)
    assert list((tmp_path / "locks").iterdir()) == []
    wm.sweep(GRID, store=tmp_path, workers=0)
    assert len(calls) == 5


def test_what_is_being_done_is_running(kept, tmp_path):
    swept, _ = kept
    store = Store.open(tmp_path)
    with store.claim(swept.runs[1]["predicted"].question):
        assert sweep_status(GRID, store=tmp_path).counts == (0, 1, 0, 3)


def test_the_store_alone_says_what_is_left(tmp_path, monkeypatch):
    """Also where the data are gone, of a sweep that was interrupted; beside another that shares runs with it."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((12, 3)).astype("float32")
    np.savez(tmp_path / "data.npz", X=X, y=X[:, :1], X_test=X, y_test=X[:, :1])
    grid = GRID | {"data": str(tmp_path / "data.npz"), "n_test": 12}
    interrupt_third_prediction(monkeypatch)
    with pytest.raises(ConfigError, match="does not say what was asked of it"):
        sweep_status(store=tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        wm.sweep(grid, store=tmp_path / "store", workers=0)
    wm.sweep(grid | {"width": [16, 8], "seeds": [0]}, store=tmp_path / "store", workers=0)
    (tmp_path / "data.npz").unlink()
    status = sweep_status(store=tmp_path / "store")
    assert status.counts == (3, 0, 0, 2)
    assert status.seconds_left is not None
    assert [part.counts for part in status.parts.values()] == [(2, 0, 0, 2), (2, 0, 0, 0)]
    assert "width=16,32" in next(iter(status.parts))


def test_a_sweep_that_is_asked_for_again_is_one(tmp_path, monkeypatch):
    """Of another version its runs are others, which take the place of those that were asked for before."""
    for version in ("0.0.1", "0.0.2"):
        monkeypatch.setattr("whichmin.jobs.store.__version__", version)
        wm.sweep(GRID, store=tmp_path, workers=0)
        assert sweep_status(store=tmp_path).counts == (4, 0, 0, 0)
    assert len(list((tmp_path / "runs").iterdir())) == 8
    wm.sweep(GRID, store=tmp_path, workers=0, train=True)
    assert [part.done for part in sweep_status(store=tmp_path).parts.values()] == [4, 8]
    (file, _) = (tmp_path / "sweeps").iterdir()
    file.write_text("half")
    with pytest.raises(ResultError, match=r"\.json is damaged .*: remove it, and start that sweep again"):
        sweep_status(store=tmp_path)


def test_several_grids_one_after_the_other(kept, asked):
    swept = wm.sweep([GRID | {"width": 32}, GRID | {"width": 16, "seeds": 1}], store=kept[1], workers=0)
    assert not asked
    assert [cell.value("width") for cell in swept.cells] == [32, 32, 16]
    assert swept.label(2) == "width=16, initialization=0"


def test_cells_that_ask_for_the_same_share_a_run(tmp_path, asked):
    swept = wm.sweep(GRID | {"batch_size": [None, 12], "width": 16, "seeds": 1}, store=tmp_path, workers=0)
    assert asked == ["predict"]
    assert len(swept.to_frame()) == 2


def test_remedies(tmp_path):
    grid = GRID | {"n_train": 20, "mitigation": ["as_it_is", "centered", "scale_search"], "width": 16, "seeds": 1}
    swept = wm.sweep(grid, store=tmp_path, workers=0, train=True)
    frame = swept.to_frame().set_index("mitigation")
    assert swept.failures == ()
    assert frame["validation_loss_predicted"].notna().all()
    assert frame["validation_loss_trained"].notna().all()
    assert frame.loc["scale_search", "chosen_scale"] > 0
    arrays = swept.arrays(2)
    assert len(arrays["search_scales"]) == len(arrays["search_losses"]) >= 1
    assert arrays["validation"].shape == (4, 1)


def test_a_network_of_ones_own_is_known_by_its_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "import torch\ndef make(seed):\n    return torch.nn.Sequential(torch.nn.Linear(64, {}), torch.nn.{}(), "
    text += "torch.nn.Linear({}, 1)).double()\n"
    grid = TINY | {"seeds": 1, "optimizer": "sgd:lr=0.05", "until": 0.5}
    for name, width, kind in (("one", 8, "ReLU"), ("two", 8, "Tanh")):
        (tmp_path / f"sweep_{name}.py").write_text(text.format(width, kind, width))
        wm.sweep(grid | {"model": f"sweep_{name}:make"}, store="store", workers=0)
    assert len(list((tmp_path / "store" / "runs").iterdir())) == 2
    assert sweep_status(grid | {"model": "sweep_one:make"}, store="store").done == 1
    assert wm.sweep(grid | {"model": "sweep_one:make"}, store="store", workers=0).reused == 1
    with (tmp_path / "sweep_one.py").open("a") as file:
        file.write("# changed\n")
    assert sweep_status(grid | {"model": "sweep_one:make"}, store="store").done == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"grid": {}}, ConfigError, "has nothing in it"),
        ({"grid": []}, ConfigError, r"the grid is \[\]"),
        ({"grid": 3}, ConfigError, "the grid is 3; expected keys and values"),
        ({"grid": "none.toml"}, ConfigError, "cannot read none.toml"),
        ({"grid": {"data_seed": list(range(1000)), "seeds": 1000}}, ConfigError, "the grid has 1,000,000 cells"),
        ({"grid": {"data": "digist"}}, DataError, "there is no data set 'digist'"),
        ({"workers": -1}, InputError, "workers is -1; expected a whole number"),
        ({"threads": 0}, InputError, "threads is 0; expected a whole number"),
        ({"executor": "dask", "grid": GRID}, InputError, "executor is 'dask'; expected"),
    ],
    ids=str,
)
def test_what_cannot_be_swept(tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        wm.sweep(**{"grid": GRID, "store": tmp_path / "store"} | arguments)


def test_a_choice_that_is_not_timed_does_not_look_at_the_clock(monkeypatch):
    from whichmin.dynamics.paths.clock import LINEARIZATION, STEP, seconds_of_linearization, untimed
    from whichmin.dynamics.paths.real import RealTraining

    monkeypatch.setattr(RealTraining, "seconds_per_step", RealTraining.__dict__["seconds_per_step"])
    with untimed():
        assert seconds_of_linearization(7.0) == LINEARIZATION
    assert seconds_of_linearization(7.0) == 7.0
    assert STEP < LINEARIZATION
