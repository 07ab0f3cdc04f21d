from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cross_entropy

from oracles.builders import N_TEST, make_classes, make_entry, make_prediction, make_task
from oracles.pages import Page
from whichmin.decomposition.explanation import MEANINGS, Explanation
from whichmin.errors import InputError, OutputError
from whichmin.report import Entry, write_report
from whichmin.report.pages.entries import TITLE, entries_page


def page(*entries: Entry, **kwargs) -> Page:
    return Page(entries_page(entries, **kwargs))


EVERYTHING = ["terms", "numbers", "agreement", "training", "flips", "lazy", "notes", "asked"]


@pytest.fixture(scope="module")
def three() -> list[Entry]:
    return [make_entry(seed) for seed in range(3)]


@pytest.fixture(scope="module")
def full(three) -> Page:
    return page(*three, config={"model": "mlp", "optimizer": {"name": "SGD", "lr": 0.4}, "batch_size": None})


def test_everything_is_there(full):
    assert full.sections == EVERYTHING
    assert full.source.count('<svg class="plot"') == 6
    for words in (TITLE, "optimizer.name", "whichmin 0.", "torch", "python"):
        assert words in full.words
    for name in ("interpolant", "initialization", "unconverged", "curvature", "drift"):
        assert name in full.words
        assert MEANINGS[name] in full.words


def test_it_loads_nothing(full):
    assert full.loads
    for target in full.loads:
        assert target.startswith(("#", "data:image/png;base64,"))
    for target in full.references:
        assert target.startswith("#") or target in full.ids
    assert not re.search(r"https?://|@import|<script|<link|<iframe", full.source)


def test_it_is_well_formed(full):
    assert full.faults == []
    assert len(full.ids) == len(set(full.ids))
    targets = [t[1:] for t in full.loads + full.references if t.startswith("#")]
    assert set(targets) <= set(full.ids)


def test_it_is_small(full):
    assert len(full.source.encode()) < 1_000_000


def test_colours_follow_the_scheme(full):
    plots = re.findall(r'<svg class="plot".*?</svg>', full.source, flags=re.DOTALL)
    style = re.search(r"<style>(.*?)</style>", full.source, flags=re.DOTALL)[1]
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style
    for plot in plots:
        assert not re.search(r"#[0-9a-fA-F]{6}\b", plot), "a colour that would not follow the scheme"
        assert set(re.findall(r"var\((--\w+)\)", plot)) <= set(re.findall(r"(--\w+):", style))


def test_the_table_holds_the_numbers_of_the_entries(full, three):
    values = {float(v) for v in full.values if v}
    for e in three:
        target = e.run.task.y_test.double()
        for outputs in (e.run.test, e.linearized.test, e.relinearized.test):
            assert any(math.isclose(float((outputs.double() - target).square().mean()), v) for v in values)
        for prediction in (e.linearized, e.relinearized):
            gap = float((prediction.test.double() - e.run.test.double()).square().mean())
            assert any(math.isclose(gap, v) for v in values)
            assert prediction.seconds in values
        assert {float(e.run.steps), e.run.seconds} <= values
        for share in e.explanation.shares().values():
            assert any(math.isclose(share, v) for v in values)


def test_the_finding_is_computed(full, three):
    frames = [e.explanation.test_error().set_index("term") for e in three]
    total = np.mean([f["loss"].iloc[-1] for f in frames])
    share = np.mean([f["change"]["initialization"] for f in frames]) / total
    finding = re.search(r'<p class="finding">(.*?)</p>', full.source, flags=re.DOTALL)[1].replace("\u00a0", " ")
    assert f"{100 * share:.0f} % of the test error was put there by the initialization" in finding
    assert "in 3,017 steps (mean of 3)" in finding
    assert "found in 0.1 s instead of 4.5 s" in finding


def test_class_numbers_are_judged_by_their_loss():
    entries = [make_entry(seed, task=make_classes()) for seed in range(2)]
    got = page(*entries)
    assert got.faults == []
    assert "training loss (cross-entropy)" in got.source
    assert "test error (cross-entropy) of the sum so far" in got.source
    assert "SGD is stable at least up to a learning rate of" in got.words
    assert "would diverge" not in got.words
    assert "of the predicted training outputs’ standard deviation" in got.words.replace("\u00a0", " ")
    values = {float(v) for v in got.values if v}
    for e in entries:
        y = e.run.task.y_test
        assert any(math.isclose(float(cross_entropy(e.run.test.double(), y)), v) for v in values)
        assert float((e.run.test.argmax(1) == y).double().mean()) in values
        assert set(e.explanation.test_error()["accuracy"]) <= values


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_stopped_short_says_so():
    whole = make_entry()
    run = dataclasses.replace(whole.run, converged=False, reason="steps reached")
    got = page(dataclasses.replace(whole, run=run))
    assert "Training left the MSE at" in got.words
    assert "short of 1.0×10⁻⁵" in got.words
    assert "steps reached" in got.words


@pytest.mark.usefixtures("undrawn")
def test_prediction_alone():
    whole = make_entry()
    got = page(Entry("seed 0", linearized=whole.linearized))
    assert got.sections == ["numbers", "training", "lazy", "asked"]
    assert got.faults == []
    assert "estimated to be 0.060" in got.words
    with_task = page(Entry("seed 0", linearized=whole.linearized, task=whole.run.task))
    assert "the predicted minimizer has test error" in with_task.words.replace("\u00a0", " ")


@pytest.mark.usefixtures("undrawn")
def test_run_alone():
    whole = make_entry()
    got = page(Entry("seed 0", run=whole.run))
    assert got.sections == ["numbers", "training", "asked"]
    assert got.faults == []


@pytest.mark.usefixtures("undrawn")
def test_followed_in_place_of_training():
    whole = make_entry()
    why = Explanation(whole.relinearized.terms, whole.run.task, whole.linearized, relinearized=whole.relinearized)
    got = page(Entry("seed 0", explanation=why))
    assert got.sections == ["terms", "numbers", "agreement", "training", "lazy", "notes", "asked"]
    assert "output along the path" in got.words


@pytest.mark.usefixtures("undrawn")
def test_without_followed_prediction():
    whole = make_entry()
    got = page(Entry("seed 0", linearized=whole.linearized, run=whole.run, explanation=whole.explanation))
    assert "along the path" not in got.words
    assert "agreement" in got.sections


def by_training(entry: Entry) -> Entry:
    """With a prediction that was made by real training."""
    made = dataclasses.replace(entry.relinearized, method="trained", intervals=0, notes=("trained a copy.",))
    return dataclasses.replace(entry, relinearized=made)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("trained", [True, False])
def test_how_predictions_were_made_is_said(trained):
    entries = [make_entry(seed) for seed in range(2)]
    if not trained:
        entries = [dataclasses.replace(e, run=None, explanation=None) for e in entries]
    way = "by training"
    words = page(*map(by_training, entries)).words
    assert "along the path" not in words
    if trained:
        assert f"predicted, {way}" in words
        assert f"{way}, measured" in words
        assert f"the prediction {way} is" in words
        assert f"The predictions {way} decide as" in words
    else:
        assert f"output {way}" in words
        assert f"Test outputs as one linearization predicts them against those {way}" in words
        assert f"the 2 predictions {way}" in words
    assert f"to predict, {way}" in words
    assert f"Prediction, {way}: trained a copy." in words
    words = page(entries[0], by_training(entries[1])).words
    assert "to predict, along the path or by training" in words
    assert "Prediction, by training: trained a copy." in words


@pytest.mark.usefixtures("undrawn")
def test_without_test_targets():
    task = make_task(targets=False)
    got = page(*(make_entry(seed, task=task) for seed in range(2)))
    assert got.sections == EVERYTHING
    assert "Waterfall" not in got.words
    assert "Test error" not in got.words
    assert "target" not in re.findall(r"<th[^>]*>(.*?)</th>", got.source)
    assert got.faults == []


@pytest.mark.usefixtures("undrawn")
def test_without_test_inputs():
    whole = make_entry()
    bare = {"test": None}
    got = page(
        Entry(
            "a", dataclasses.replace(whole.linearized, **bare, terms={}), None, dataclasses.replace(whole.run, **bare)
        ),
        Entry(
            "b", dataclasses.replace(whole.linearized, **bare, terms={}), None, dataclasses.replace(whole.run, **bare)
        ),
    )
    assert got.sections == ["numbers", "training", "lazy", "asked"]


def test_an_entry_of_nothing():
    got = page(Entry("empty"))
    assert got.sections == []
    assert "nothing to compare" in got.words


@pytest.mark.usefixtures("undrawn")
def test_entries_that_lack_different_parts_share_a_table():
    whole = make_entry()
    got = page(whole, Entry("predicted only", linearized=whole.linearized), Entry("run only", run=whole.run))
    assert got.faults == []
    assert "–" in got.words


def test_many_entries():
    got = page(*(make_entry(seed) for seed in range(30)))
    assert got.faults == []
    assert len(got.ids) == len(set(got.ids))
    assert "All 30 entries" in got.words
    assert "seed 29" in got.words
    assert "smallest" in got.words
    assert len(got.source.encode()) < 1_500_000


@pytest.mark.usefixtures("undrawn")
def test_several_outputs():
    got = page(*(make_entry(seed, outputs=3) for seed in range(2)))
    assert got.sections[-4:] == ["flips", "lazy", "notes", "asked"]
    assert "Deciding by the largest output" in got.words
    assert "class 2" in got.words


@pytest.mark.usefixtures("undrawn")
def test_of_several_step_counts_the_last_is_shown():
    whole = make_entry()
    stacked = torch.stack([torch.zeros_like(whole.linearized.test), whole.linearized.test])
    linearized = dataclasses.replace(
        whole.linearized,
        test=stacked,
        train=torch.stack([whole.linearized.train] * 2),
        steps=torch.tensor([10.0, 5000.0]),
    )
    got = page(dataclasses.replace(whole, linearized=linearized))
    assert got.values == page(whole).values
    alone = page(Entry("seed 0", linearized=linearized))
    assert "steps predicted 5,000" in alone.words


def test_hostile_text_stays_text(tmp_path):
    evil = '<script>alert("x")</script>&$\\frac{'
    whole = make_entry(label=evil)
    terms = {evil if k == "drift" else k: v for k, v in whole.explanation.terms.items()}
    why = dataclasses.replace(whole.explanation, terms=terms)
    noted = dataclasses.replace(whole.linearized, notes=(evil,))
    hostile = dataclasses.replace(whole, explanation=why, linearized=noted)
    got = page(hostile, make_entry(1), title=evil, config={evil: evil}, table=pd.DataFrame({evil: [evil]}))
    assert "script" not in got.tags
    assert got.faults == []
    assert got.words.count('<script>alert("x")</script>') >= 8


@pytest.mark.usefixtures("undrawn")
def test_a_table_of_the_callers_own():
    frame = pd.DataFrame({"n": [1, 20000], "mse": [1.5e-6, math.nan], "ok": [True, False], "s": ["a", None]})
    got = page(make_entry(), table=frame.set_index("s"))
    for words in ("20,000", "1.50×10⁻⁶", "not a number", "yes"):
        assert words in got.words


@pytest.mark.usefixtures("undrawn")
def test_long_labels_and_values():
    got = page(make_entry(label="x" * 300), make_entry(1), config={"path": "y" * 300})
    assert "x" * 300 in got.words
    assert "overflow-wrap: anywhere" in got.source


@pytest.mark.usefixtures("undrawn")
def test_configuration_is_not_repeated():
    got = page(make_entry(), config={"optimizer": {"name": "SGD", "lr": 0.4}, "until": 1e-5})
    asked = re.search(r'<dl class="asked">(.*?)</dl>', got.source, flags=re.DOTALL)[1]
    names = re.findall(r"<dt>(.*?)</dt>", asked)
    assert names == [
        "optimizer.name",
        "optimizer.lr",
        "until",
        "training points",
        "test points",
        "outputs",
        "loss",
        "steps predicted",
    ]
    assert "<dd>1e-5</dd>" in asked


@pytest.mark.usefixtures("undrawn")
def test_notes_name_their_entries():
    first, second = make_entry(0), make_entry(1)
    first = dataclasses.replace(first, linearized=dataclasses.replace(first.linearized, notes=("alone",)))
    got = page(first, second)
    assert re.search(r"alone <span class=\"of\">\(seed 0\)", got.source)
    assert re.search(r"limit of stability at step 120 <span class=\"of\">\(all\)", got.source)


@pytest.mark.usefixtures("undrawn")
def test_notes_that_differ_by_their_numbers_are_told_once():
    entries = [make_entry(seed) for seed in range(6)]
    noted = [
        dataclasses.replace(e, linearized=dataclasses.replace(e.linearized, notes=(f"rank {i} of 9.",)))
        for i, e in enumerate(entries[:5])
    ]
    got = page(*noted, entries[5])
    assert re.findall(r"rank (\d) of 9\. <span class=\"of\">\((.*?)\)", got.source) == [
        ("0", "seed 0, and the like of 4 more")
    ]


@pytest.mark.usefixtures("undrawn")
def test_many_notes_fold():
    entries = [make_entry(seed) for seed in range(9)]
    noted = [
        dataclasses.replace(e, linearized=dataclasses.replace(e.linearized, notes=(f"note {'abcdefghi'[i]}",)))
        for i, e in enumerate(entries)
    ]
    got = page(*noted)
    assert "<summary>4 more</summary>" in got.source
    assert got.faults == []


@pytest.mark.usefixtures("undrawn")
def test_small_terms_leave_the_error_to_the_interpolant():
    whole = make_entry()
    terms = {"interpolant": whole.run.test, "initialization": torch.full((N_TEST, 1), 1e-4)}
    got = page(Entry("a", explanation=dataclasses.replace(whole.explanation, terms=terms)))
    assert "Nearly all of it is the interpolant’s" in got.words


@pytest.mark.usefixtures("undrawn")
def test_a_term_that_helps_is_said_to_lower_the_error():
    whole = make_entry()
    target = whole.run.task.y_test
    terms = {"interpolant": 0.5 * target, "drift": 0.4 * target}
    got = page(Entry("a", explanation=dataclasses.replace(whole.explanation, terms=terms)))
    assert "The drift of the tangent features lowered the test error from 0.25 to 0.010." in got.words


@pytest.mark.usefixtures("undrawn")
def test_written_whole(tmp_path):
    target = tmp_path / "deeper" / "report.html"
    write_report(target, [make_entry()], title="A & B")
    write_report(target, [make_entry()], title="A & C")
    assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "<title>A &amp; C</title>" in target.read_text(encoding="utf-8")
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


@pytest.mark.usefixtures("undrawn")
def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*report\.html"):
        write_report(tmp_path / "file" / "report.html", [make_entry()])
    with pytest.raises(OutputError, match="is a folder"):
        write_report(tmp_path, [make_entry()])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_no_entries(tmp_path):
    with pytest.raises(InputError, match="no entries"):
        write_report(tmp_path / "r.html", [])


@pytest.mark.usefixtures("undrawn")
def test_explanation_report(tmp_path):
    make_entry().explanation.report(tmp_path / "r.html", title="One")
    assert Page((tmp_path / "r.html").read_text(encoding="utf-8")).faults == []


@pytest.mark.usefixtures("undrawn")
def test_a_prediction_of_gradient_flow_has_no_learning_rate_limit():
    task = make_task()
    zero = {"interpolant": torch.zeros(N_TEST, 1)}
    flow = page(Entry("a", linearized=make_prediction(task, zero, 0, flow=True)))
    descent = page(Entry("a", linearized=make_prediction(task, zero, 0)))
    assert "the learning rate’s limit" not in flow.words
    assert "gradient flow" in flow.words
    assert "the learning rate’s limit" in descent.words


@pytest.mark.usefixtures("undrawn")
def test_settings_of_training_do_not_hide_what_the_entries_tell():
    got = page(make_entry(), config={"steps": None, "train": True})
    assert "steps predicted ∞" in got.words
    assert "training points 40" in got.words
