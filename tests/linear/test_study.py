"""A study, its figures, its report and its command."""

import html.parser
import json
import math
import re
from types import SimpleNamespace

import pytest
import torch
from cyclopts import App
from matplotlib.figure import Figure

from whichmin import linear
from whichmin.cli.linear import linear as command
from whichmin.errors import ConfigError, OutputError
from whichmin.linear.descent import largest_step
from whichmin.linear.study import measured_rate
from whichmin.report.figures.drift import draw_drift
from whichmin.report.figures.invariant import draw_invariant
from whichmin.report.figures.loss import draw_loss
from whichmin.report.figures.width import width_figure
from whichmin.report.pages.linear import linear_page
from whichmin.report.panel import panel


@pytest.fixture(scope="module")
def answer():
    return linear.study(*linear.example(4, 9, 2), width=40, widths=(20, 40, 80), exponents=(0.4, 0.5), seeds=3)


def test_measured_is_within_guaranteed(answer):
    table = answer.to_frame().set_index("quantity")
    rate = table.loc["rate of the loss"]
    assert rate.guaranteed <= rate.tight <= rate.measured
    late = table.loc["rate of the loss near the optimum"]
    assert late.tight <= late.measured
    distance = table.loc["distance to minimum norm at the end"]
    assert distance.measured <= distance.tight <= distance.guaranteed
    assert table.loc["the same, on the invariant set"].measured < 1e-7
    near, off = (float(answer.flows[k].solution_distances[-1]) for k in ("near it", "random"))
    assert 1e-4 < near < off


def test_descents_drift_in_proportion_to_the_step(answer):
    drifts = [float(run.imbalance_drift[-1]) for run in answer.descents.values()]
    assert drifts[0] / drifts[1] == pytest.approx(10, rel=0.5)
    assert drifts[1] / drifts[2] == pytest.approx(10, rel=0.2)


def test_a_study_starts_where_it_says(answer):
    X, Y = linear.example(4, 9, 2)
    delta = {k: linear.analyze_weights(*run.at(0), X, Y).invariant_distance for k, run in answer.flows.items()}
    assert delta["near it"] == pytest.approx(0.1 * delta["random"], rel=1e-6)
    assert delta["on the invariant set"] < 1e-12
    assert delta["random"] == pytest.approx(answer.analysis.invariant_distance)
    start = answer.flows["random"]
    limit = largest_step(start._problem, start._states[0])
    for fraction, run in answer.descents.items():
        assert float(run.times[1] - run.times[0]) / fraction / limit == pytest.approx(
            max(1, run.evaluations // 200), rel=1e-9
        )
        assert float(run.times[-1]) == pytest.approx(min(float(start.times[-1]), 500 * limit), abs=fraction * limit)
    assert list(answer.descents) == [0.5, 0.05, 0.005]


def test_measured_rates_are_the_least_mean_rate_and_the_late_one():
    times = torch.linspace(0, 30, 301).double()
    run = SimpleNamespace(times=times, gaps=3.0 * (0.99 * torch.exp(-2 * times) + 0.01 * torch.exp(-times)))
    relative = run.gaps / run.gaps[0]
    early = -relative[1:].log() / times[1:]
    assert measured_rate(run) == pytest.approx(float(early[relative[1:] > 1e-12].min()))
    inside = (relative < 1e-4) & (relative > 1e-8)
    first, *_, last = relative[inside].log().tolist()
    assert measured_rate(run, late=True) == pytest.approx((first - last) / (0.1 * (int(inside.sum()) - 1)))
    assert 1.0 < measured_rate(run) < 1.25
    assert math.isnan(measured_rate(SimpleNamespace(times=times, gaps=torch.ones(301).double()), late=True))


def test_figures_draw_what_they_are_given(answer):
    run = answer.flows["random"]
    drawn = panel(draw_loss)(answer)
    assert isinstance(drawn, Figure)
    lines = {line.get_label(): line for line in drawn.axes[0].lines}
    assert set(lines) == {"bound", "tight bound", "flow"}
    assert lines["flow"].get_ydata()[0] == pytest.approx(float(run.gaps[0]))
    assert (lines["tight bound"].get_ydata()[:20] >= lines["flow"].get_ydata()[:20]).all()
    assert len(panel(draw_invariant)(answer).axes[0].lines) == 3
    assert len(panel(draw_drift)(answer).axes[0].lines) == 4
    labels = [text.get_text() for text in width_figure(answer.sweep).axes[0].get_legend().get_texts()]
    assert len(labels) == 2
    assert labels[1].startswith("a = 0.5: −0.")
    assert labels[1].endswith("(−0.50)")


def test_a_unique_minimizer_has_no_sweep_and_can_be_reported():
    only = linear.study(*linear.example(12, 4, 1), width=10, widths=(20, 40))
    assert only.sweep is None
    assert "fig-width" not in linear_page(only)


class Balance(html.parser.HTMLParser):
    """Tags that are opened are closed."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_one_file_that_needs_nothing_else(answer, tmp_path):
    path = tmp_path / "deep" / "report.html"
    answer.report(path)
    page = path.read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert page.count("<svg") == 4
    assert not re.search(r'(?:src|href)="(?:https?:|//|/)', page)
    assert "@import" not in page
    assert "n + m − 1 = 5" in page
    assert "prefers-color-scheme" in page
    with pytest.raises(OutputError):
        answer.report(tmp_path)


def run(*tokens):
    app = App(name="whichmin", result_action="return_value")
    app.command(command, name="linear")
    return app(["linear", *tokens], exit_on_error=False, print_error=False)


SMALL = ("--points", "4", "--inputs", "8", "--outputs", "2", "--width", "30", "--seeds", "2")


def test_the_command_prints_a_table_and_writes_the_report(tmp_path, capsys):
    assert run(*SMALL, "--widths", "20,40", "--exponents", "0.5", "--out", str(tmp_path)) == 0
    captured = capsys.readouterr()
    assert "guaranteed" in captured.out
    assert "a = 0.5" in captured.out
    assert "note: the initialization is off the invariant set" in captured.out
    assert "width sweep" in captured.err
    assert (tmp_path / "report.html").is_file()


def test_the_command_speaks_json(tmp_path, capsys):
    run(*SMALL, "--widths", "none", "--json", "--out", str(tmp_path))
    said = json.loads(capsys.readouterr().out)
    assert said["config"]["width"] == 30
    assert said["fits"] == {}
    assert said["table"][0]["measured"] > said["table"][0]["guaranteed"] > 0
    assert not any(math.isnan(v) for row in said["table"] for k, v in row.items() if k != "quantity" and v is not None)


def test_the_command_takes_data(tmp_path, capsys):
    assert run("--data", "digits", "--points", "3", "--width", "60", "--widths", "none", "--out", str(tmp_path)) == 0
    assert "rate of the loss" in capsys.readouterr().out


@pytest.mark.parametrize("tokens", [("--widths", "wide"), ("--exponents", "a,b"), ("--points", "0")])
def test_the_command_says_what_it_cannot_use(tokens, tmp_path):
    with pytest.raises(ConfigError, match="expected"):
        run(*tokens, "--out", str(tmp_path))
