"""The report's figures, each with what to see in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup
from matplotlib.figure import Figure

from whichmin.report import plots
from whichmin.report.apart import by_optimizer
from whichmin.report.numbers import mean_sd, number, percent
from whichmin.report.svg import inline_svg
from whichmin.report.view import View, array


@dataclass(frozen=True)
class Drawn:
    """A figure for the template.

    Attributes:
        svg: the inline SVG element.
        caption: what to see in it.
    """

    svg: Markup
    caption: str


def figures(shown: Sequence[View]) -> dict[str, Drawn]:
    """The figures that the entries have the numbers for, by name; those of the terms are :func:`term_figures`."""
    made: dict[str, tuple[Figure | None, str, str]] = {
        "agreement": (
            plots.agreement_figure(shown),
            "Predicted against trained test outputs",
            "Predicted against trained test outputs. On the line, prediction and training agree.",
        ),
        "difference": (
            plots.difference_figure(shown),
            "Predicted minus trained test outputs",
            "The same points as the difference from the line. The closer to zero, the better the prediction.",
        ),
        "curves": (plots.curves_figure(shown), "Training error against steps", _curves(shown)),
        "spectrum": (plots.spectrum_figure(shown), "Eigenvalues of the tangent kernel", _spectrum(shown)),
    }
    return _drawn(made)


def term_figures(shown: Sequence[View]) -> list[tuple[str | None, dict[str, Drawn]]]:
    """Per optimizer (None where there are not several) its waterfall and its terms."""
    parts = [(name, list(views)) for name, views in by_optimizer(shown).items()] or [(None, list(shown))]
    found = []
    for number_, (name, views) in enumerate(parts):
        first = next((v.explanation for v in views if v.explanation is not None), None)
        if first is None:
            continue
        of = "" if name is None else f", {name}"
        made = {
            "waterfall": (plots.waterfall_figure(views), f"Waterfall of the test error by term{of}", _waterfall(views)),
            "terms": (plots.terms_figure(first), f"Value of each term at each test point{of}", _terms(views)),
        }
        found.append((name, _drawn(made, f"-{number_}" if number_ else "")))
    return found


def _drawn(made: dict[str, tuple[Figure | None, str, str]], suffix: str = "") -> dict[str, Drawn]:
    return {
        name: Drawn(Markup(inline_svg(figure, f"fig-{name}{suffix}", title)), caption)
        for name, (figure, title, caption) in made.items()
        if figure is not None
    }


def _several(shown: Sequence[View]) -> str:
    return f" Bars are means over {len(shown)} entries, dots the entries." if len(shown) > 1 else ""


def _waterfall(shown: Sequence[View]) -> str:
    explained = [v for v in shown if v.explanation is not None]
    return (
        "Test error of the terms added one after the other. A bar to the right (red) is error that its term put there, "
        f"a bar to the left (green) error that it took away.{_several(explained)}"
    )


def _terms(shown: Sequence[View]) -> str:
    label = next((v.label for v in shown if v.explanation is not None), "")
    return "What each term adds to the output at each test point; a row around zero is a term that hardly matters." + (
        f" Shown for {label}." if len(shown) > 1 else ""
    )


def _curves(shown: Sequence[View]) -> str:
    text = "Training error against steps, both axes logarithmic."
    if any(v.run is not None for v in shown):
        text += (
            " A coloured line on the dark one is a prediction that got the course of training right, not only its end."
        )
    return text + (" One line per entry." if len(shown) > 1 else "") + (" One panel per optimizer." * _panels(shown))


def _panels(shown: Sequence[View]) -> bool:
    return bool(by_optimizer(shown))


def _spectrum(shown: Sequence[View]) -> str:
    predictions = [(v, p) for v in plots.one_kernel_each(shown) if (p := v.linearized or v.relinearized) is not None]
    if not predictions:
        return ""
    spectra = [array(p.eigenvalues) for _, p in predictions]
    ranks = [plots.effective_rank(values) for values in spectra if (values > 0).any()]
    text = "Eigenvalues of the tangent kernel at the start: the larger, the sooner its direction is learned."
    if ranks:
        text += (
            f" The effective rank, exp of the entropy of the normalized eigenvalues, is {mean_sd(ranks)} of "
            f"{number(len(spectra[0]))}."
        )
    descent = [(v, p) for v in shown if (p := v.linearized or v.relinearized) is not None]
    used = [p.learning_rate / p.max_lr for v, p in descent if plots.largest_allowed(v) is not None]
    if used:
        limit = number(fmean(p.max_lr for _, p in predictions))
        text += f" Gradient descent is stable up to a learning rate of {limit}"
        text += f"; the one used is {percent(fmean(used))} of that."
        if plots.limit_is_near(fmean(used)):
            text += " With it, eigenvalues above the red line would diverge."
    return text
