"""The callbacks, in the trainers of the libraries themselves where these are installed."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import whichmin as wm
from oracles.linear_rules import distance
from whichmin.decomposition.recorded import explain_recorder
from whichmin.errors import InputError, OptimizerError, ResultError
from whichmin.training import adapters


def make_task():
    draw = torch.Generator().manual_seed(0)
    X, X_test = (torch.randn(n, 4, generator=draw) for n in (12, 5))
    return wm.Task(X, X[:, :1] * X[:, 1:2], X_test, X_test[:, :1] * X_test[:, 1:2])


def logits(out):
    """What a classifier of transformers returns, or a tensor itself."""
    return getattr(out, "logits", out)


def check(recorder, steps, task):
    assert recorder.steps == steps
    assert [s.step for s in recorder.snapshots][:3] == [0, 1, 2]
    found = explain_recorder(recorder)
    assert distance(found.total, recorder.run().test) < 1e-6
    assert distance(logits(recorder.model(task.X_test)), recorder.run().test) < 1e-6


@pytest.mark.parametrize(
    ("name", "package"), [("LightningRecorder", "lightning.pytorch"), ("TransformersRecorder", "transformers")]
)
def test_a_missing_package_is_named(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(vars(adapters), name, raising=False)
    with pytest.raises(ImportError, match=rf"{name} needs {package}: pip install 'whichmin\[adapters\]'"):
        getattr(adapters, name)


def test_there_are_two():
    with pytest.raises(AttributeError, match="no attribute 'NoRecorder'"):
        _ = adapters.NoRecorder


@pytest.fixture
def lightning():
    return pytest.importorskip("lightning.pytorch")


def module_of(pl, optimizers=1):
    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 1))
            self.automatic_optimization = optimizers == 1
            self.broken_at = None

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, number):
            if self.broken_at == number:
                raise RuntimeError("out of luck")
            x, y = batch
            return nn.functional.mse_loss(self(x), y)

        def configure_optimizers(self):
            made = [torch.optim.Adam(self.parameters(), lr=1e-2) for _ in range(optimizers)]
            return made if optimizers > 1 else made[0]

    return Module()


def fit(pl, module, task, callbacks, folder):
    trainer = pl.Trainer(
        max_epochs=3,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    torch.manual_seed(5)
    trainer.fit(module, DataLoader(TensorDataset(task.X, task.y), batch_size=4, shuffle=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", [None, lambda module: module.net])
def test_lightning(lightning, tmp_path, network):
    task = make_task()
    callback = adapters.LightningRecorder(task, network=network)
    with pytest.raises(ResultError, match="training has not begun: pass this LightningRecorder"):
        _ = callback.recorder
    module, plain = module_of(lightning), module_of(lightning)
    fit(lightning, module, task, [callback], tmp_path)
    fit(lightning, plain, task, [], tmp_path)
    for a, b in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b), "the fit is the same to the bit"
    check(callback.recorder, 9, task)
    assert "the loop ended after 9 steps" in callback.recorder.reason
    assert callback.recorder.metric is not None


@pytest.mark.filterwarnings("ignore")
def test_lightning_broken_off(lightning, tmp_path):
    task, module = make_task(), module_of(lightning)
    callback = adapters.LightningRecorder(task)
    module.broken_at = 2
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(lightning, module, task, [callback], tmp_path)
    check(callback.recorder, 2, task)
    assert callback.recorder.reason.startswith("left by RuntimeError after 2 steps")


@pytest.mark.filterwarnings("ignore")
def test_lightning_with_two_optimizers(lightning, tmp_path):
    task, module = make_task(), module_of(lightning, optimizers=2)
    with pytest.raises(OptimizerError, match="configures 2 optimizers; a recorder follows one"):
        fit(lightning, module, task, [adapters.LightningRecorder(task)], tmp_path)


def hugging(transformers, task, callbacks, folder, rows=None, **settings):
    """A tiny BERT, trained to regress."""
    torch.manual_seed(2)
    more = {} if rows is None else {"initializer_range": 0.5}  # so that a mask shows
    more |= {"num_labels": 1} | settings.pop("shape", {})
    shape = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**shape, intermediate_size=32, max_position_embeddings=8, **more)
    model = transformers.BertForSequenceClassification(config)
    if rows is None:
        rows = [{"input_ids": x, "labels": y} for x, y in zip(task.X, task.y, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=settings.pop("per_device_train_batch_size", 4),
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **settings,
    )
    transformers.Trainer(model=model, args=arguments, train_dataset=rows, callbacks=callbacks).train()
    return model


def tokens():
    draw = torch.Generator().manual_seed(1)
    X, X_test = (torch.randint(0, 8, (n, 5), generator=draw) for n in (12, 5))
    return wm.Task(X, X[:, :1] / 8.0, X_test, X_test[:, :1] / 8.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("accumulation", "steps"), [(1, 6), (3, 2)])
def test_transformers(tmp_path, accumulation, steps):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    task = tokens()
    callback = adapters.TransformersRecorder(task)
    with pytest.raises(ResultError, match="training has not begun: pass this TransformersRecorder"):
        _ = callback.recorder
    model = hugging(transformers, task, [callback], tmp_path, gradient_accumulation_steps=accumulation)
    plain = hugging(transformers, task, [], tmp_path, gradient_accumulation_steps=accumulation)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b), "the training is the same to the bit"
    check(callback.recorder, steps, task)
    assert callback.recorder.metric is not None


@pytest.fixture
def transformers():
    pytest.importorskip("accelerate")
    return pytest.importorskip("transformers")


def padded(side="right"):
    """Rows of two to five tokens, padded with 0, and the rows of the trainer's data set."""
    draw = torch.Generator().manual_seed(1)
    X, X_test = (torch.randint(1, 8, (n, 5), generator=draw) for n in (12, 5))
    for rows in (X, X_test):
        for i, x in enumerate(rows):
            length = 2 + i % 4
            (x[length:] if side == "right" else x[: 5 - length]).fill_(0)
    task = wm.Task(X, X[:, 1:2] / 8.0, X_test, X_test[:, 1:2] / 8.0)
    rows = [
        {"input_ids": x, "attention_mask": (x != 0).long(), "labels": y} for x, y in zip(task.X, task.y, strict=True)
    ]
    return task, rows


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_batches_are_explained_with_their_mask(transformers, tmp_path, side):
    task, rows = padded(side)
    callback = adapters.TransformersRecorder(task)
    model = hugging(transformers, task, [callback], tmp_path, rows)
    plain = hugging(transformers, task, [], tmp_path, rows)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b), "the training is the same to the bit"
    assert not model._forward_pre_hooks
    check(callback.recorder, 6, task)
    with torch.no_grad():
        model.eval()
        masked = model(input_ids=task.X_test, attention_mask=(task.X_test != 0).long()).logits
        assert distance(model(input_ids=task.X_test).logits, masked) > 1e-3, "the mask matters"
    assert distance(callback.recorder.run().test, masked) < 1e-6
    assert callback.recorder.notes == ()


@pytest.mark.filterwarnings("ignore")
def test_inputs_says_what_rows_are(transformers, tmp_path):
    task, rows = padded()
    for row in rows:
        row["token_type_ids"] = (row["input_ids"] > 3).long()
    with pytest.raises(
        InputError, match=r"with 'token_type_ids' beside 'input_ids', which rows of X do not tell\. Pass inp"
    ):
        hugging(transformers, task, [adapters.TransformersRecorder(task)], tmp_path, rows)

    def arguments(x):
        return {"input_ids": x[:, 0], "attention_mask": x[:, 1], "token_type_ids": x[:, 2]}

    def packed(x):
        return torch.stack([x, (x != 0).long(), (x > 3).long()], 1)

    whole = wm.Task(packed(task.X), task.y, packed(task.X_test), task.y_test)
    short = adapters.TransformersRecorder(whole, inputs=lambda x: dict(list(arguments(x).items())[:2]))
    with pytest.raises(
        InputError, match="'token_type_ids', which inputs= does not return; it returns 'attention_mask', "
    ):
        hugging(transformers, whole, [short], tmp_path, rows)
    callback = adapters.TransformersRecorder(whole, inputs=arguments)
    model = hugging(transformers, whole, [callback], tmp_path, rows).eval()
    check(callback.recorder, 6, whole)
    with torch.no_grad():
        assert distance(callback.recorder.run().test, model(**arguments(whole.X_test)).logits) < 1e-6


@pytest.mark.filterwarnings("ignore")
def test_batches_whose_mask_differs_later_are_remarked(transformers, tmp_path):
    task, rows = padded()
    rows[11]["attention_mask"] = torch.tensor([1, 0, 1, 0, 1])
    order = [*range(12)]

    def fit(callback):
        # A list in order, so that the twelfth row comes last.
        loader = [rows[i] for i in order]
        return hugging(transformers, task, [callback], tmp_path, loader, train_sampling_strategy="sequential")

    callback = adapters.TransformersRecorder(task)
    fit(callback)
    (note,) = callback.recorder.notes
    assert "another attention mask than their padding gives" in note
    assert note[:60] in repr(callback.recorder)
    assert note in explain_recorder(callback.recorder).notes
    callback.close()
    assert callback.recorder.notes == (note,), "it is said once"
    order.reverse()
    with pytest.raises(InputError, match="attention_mask is not that of rows padded with one token at one end"):
        fit(adapters.TransformersRecorder(task))


@pytest.mark.filterwarnings("ignore")
def test_a_trainer_that_does_not_call_the_model(transformers, tmp_path):
    task, _ = padded()
    callback = adapters.TransformersRecorder(task)
    callback.on_train_begin(None, None, None, model=nn.Linear(2, 1), optimizer=None)
    with pytest.raises(ResultError, match="has not called the model in training mode"):
        _ = callback.recorder
    with pytest.raises(InputError, match="leave inputs out"):
        adapters.TransformersRecorder(task, inputs=lambda x: {}, network=lambda m: m)


def classified(tokens):
    """The task of some tokens whose classes are those of their first one, and the rows of the trainer's data set."""
    y, y_test = (X[:, 0] % 3 for X in (tokens.X, tokens.X_test))
    rows = [{"input_ids": x, "labels": int(label)} for x, label in zip(tokens.X, y, strict=True)]
    return y, y_test, rows


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_label_smoothing_that_the_task_does_not_have_is_remarked(transformers, tmp_path, dropout):
    plain = tokens()
    y, y_test, rows = classified(plain)

    def notes(factor, y=y, y_test=y_test, **smoothing):
        loss = nn.CrossEntropyLoss(**smoothing)
        callback = adapters.TransformersRecorder(wm.Task(plain.X, y, plain.X_test, y_test, loss=loss))
        hugging(
            transformers, plain, [callback], tmp_path, rows, shape={"num_labels": 3, "hidden_dropout_prob": dropout},
            label_smoothing_factor=factor,
        )  # fmt: skip
        return callback.recorder.notes

    (note,) = notes(0.1)
    assert note.startswith("the trainer's label_smoothing_factor is 0.1, and the task's loss, CrossEntropyLoss(), has")
    assert "Give the task loss=torch.nn.CrossEntropyLoss(label_smoothing=0.1) and class numbers." in note
    (note,) = notes(0.1, label_smoothing=0.2)
    assert "CrossEntropyLoss(smoothing=0.2), has not the same" in note
    assert notes(0.1, label_smoothing=0.1) == ()
    assert notes(0.0) == ()
    one_hot = nn.functional.one_hot(y, 3).float()
    assert notes(0.1, 0.9 * one_hot + 0.1 / 3, None) == ()
    assert notes(0.1, one_hot, None, label_smoothing=0.1) == ()
    (note,) = notes(0.1, one_hot, None)
    assert "label_smoothing_factor" in note
