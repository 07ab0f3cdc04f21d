"""The documentation's first picture
==================================

The picture on the documentation's start page: the first seed of ``whichmin explain`` on the digits, drawn for light and
for dark pages. The documentation does not run it: it trains a wide network for real, and what it draws is kept.

python examples/start_page_figure.py docs
"""

import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import whichmin as wm

# sphinx_gallery_thumbnail_path = "picture-light.svg"
#: (ink, muted, one linearization, path of several, better, worse)
THEMES = {
    "light": ("#1e2329", "#66707b", "#c77f00", "#0072b2", "#00845f", "#c85400"),
    "dark": ("#e6edf3", "#9aa5b1", "#f0b040", "#58b4ee", "#2fc79a", "#ff8a4c"),
}
#: The terms in the order they are added up, as the axis names them.
NAMES = {"unconverged": "unfinished training"}


def measure(
    width: int = 2048, n: int = 100, until: float = 1e-5
) -> tuple[wm.Prediction, wm.Prediction, wm.Explanation]:
    """Both predictions and the explained training of one network on zeros and ones."""
    task = wm.data.load("digits", classes=(0, 1), n_train=n, n_test=100, seed=0)
    model = wm.networks.MLP((64, width, 1), seed=0)
    descent = wm.Recipe(torch.optim.SGD, lr="half")
    linearized = wm.predict(model, task, descent, until=until, relinearize="never")
    relinearized = wm.predict(model, task, descent, until=until, relinearize="path")
    return linearized, relinearized, wm.explain(wm.train(model, task, descent, until=until))


def draw(linearized: wm.Prediction, relinearized: wm.Prediction, explained: wm.Explanation, theme: str) -> Figure:
    """Predicted minus trained outputs, and the test error term by term."""
    ink, muted, *_ = THEMES[theme]
    settings: dict[Any, Any] = {
        "font.size": 10,
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": muted,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10.5,
        "legend.frameon": False,
        "svg.hashsalt": "whichmin",
    }
    with rc_context(settings):
        figure = Figure(figsize=(9, 3.3), layout="constrained")
        left, right = figure.subplots(1, 2)
        _deviations(left, linearized, relinearized, explained, theme)
        _waterfall(right, explained, theme)
    return figure


def _deviations(
    axes: Axes, linearized: wm.Prediction, relinearized: wm.Prediction, explained: wm.Explanation, theme: str
) -> None:
    _, muted, orange, blue, *_ = THEMES[theme]
    run = explained.run
    assert run is not None
    trained = _numbers(run.test)
    axes.axhline(0, color=muted, linewidth=0.8)
    for prediction, name, color in (
        (linearized, "one linearization", orange),
        (relinearized, f"{relinearized.intervals} linearizations, {relinearized.seconds:.1f} s", blue),
    ):
        axes.scatter(trained, _numbers(prediction.test) - trained, s=14, color=color, label=name, linewidths=0)
    axes.set_title(f"Predicted minus trained ({run.steps:,} steps, {run.seconds:.0f} s)")
    axes.set_xlabel("output of the trained network, 100 test points")
    axes.legend(loc="upper center", fontsize=9, handletextpad=0.2)


def _waterfall(axes: Axes, explained: wm.Explanation, theme: str) -> None:
    ink, muted, _, _, better, worse = THEMES[theme]
    rows = explained.test_error().to_dict("records")
    terms = [str(row["term"]) for row in rows]
    for i, row in enumerate(rows):
        loss, change = row["loss"], row["change"]
        before = loss - change
        color = muted if i == 0 else (worse if change > 0 else better)
        axes.barh(i, change, left=before, color=color, height=0.6)
        text = f"{loss:.4f}" if i == 0 else f"{change:+.4f}".replace("-", "−")
        axes.annotate(text, (max(loss, before), i), (4, 0), textcoords="offset points", va="center", fontsize=9)
    final = rows[-1]["loss"]
    axes.barh(len(rows), final, color=ink, height=0.6)
    end = (final, len(rows))
    axes.annotate(f"{final:.4f}", end, (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows) + 1), [*(NAMES.get(term, term) for term in terms), "trained network"])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.tick_params(axis="y", length=0)
    axes.set_title("Test error, term by term")
    axes.set_xlabel("mean square error of the sum so far")


def _numbers(outputs: Tensor) -> Tensor:
    return outputs.double().reshape(-1)


def main(folder: str = "docs", width: int = 2048, n: int = 100, until: float = 1e-5) -> None:
    """Measure once, draw for both themes."""
    found = measure(width, n, until)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        path = Path(folder) / f"picture-{theme}.svg"
        draw(*found, theme).savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "docs")
