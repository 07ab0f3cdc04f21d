"""A figure of a paper: what it measures, what it claims, how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from whichmin.papers.claims import Claim, Table
from whichmin.papers.measure import Measurement, fingerprint_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["predicted", "trained"]
#: The papers by the name that the command line has for them: title, authors, where it is.
PAPERS = {
    "which-minimizer": "Nonnenmacher, Reeb, Steinwart, Which Minimizer Does My Neural Network Converge To?, "
    "arXiv 2011.02408",
    "dynamical-view": "Bu, Xu, Chen, A Dynamical View on Optimization Algorithms of Overparameterized Neural Networks, "
    "arXiv 2010.13165",
    "linear-networks": "Min, Tarmoun, Vidal, Mallada, On the Explicit Role of Initialization on the Convergence and "
    "Implicit Bias of Overparametrized Linear Networks, arXiv 2105.06351",
}


@dataclass(frozen=True)
class Size:
    """How large the study is.

    Attributes:
        quick: small widths, few seeds: minutes. Else the paper's settings.
        kinds: what is done: "predicted", "trained".
        data: in place of a figure's own data; None for these.
        device: where the networks are trained that take hours on a CPU, as torch names it.
    """

    quick: bool = True
    kinds: tuple[Kind, ...] = ("predicted", "trained")
    data: str | None = None
    device: str = "cpu"

    def pick(self, quick: Any, full: Any) -> Any:
        """One of two values."""
        return quick if self.quick else full

    def on(self, data: str) -> dict[str, Any]:
        """The data of the papers: classes 0 and 1, N = 100 and 100 test points; fewer where a set has fewer."""
        name = data if self.data is None else self.data
        points = (60, 100) if name == "fashion-mnist" else (100, 100)
        return {"data": name, "n_train": points[0], "n_test": points[1]}


def measurement(function: Callable[..., Any], **settings: Any) -> Measurement:
    """A measurement, with the fingerprint of its data where it names them."""
    named = {key: settings[key] for key in ("data", "n_train", "n_test") if key in settings}
    return Measurement.of(function, fingerprint_of(**named) if "data" in named else "", **settings)


@dataclass(frozen=True)
class PaperFigure:
    """A figure.

    Attributes:
        paper: a key of :data:`PAPERS`.
        name: such as "fig2".
        content: what it is about, in a word; another name of it.
        title: a line.
        about: what is done, in sentences.
        cells: the measurements for a size.
        claims: what the paper says of it.
        draw: draws the table of one kind into axes.
        panels: how many axes it takes.
        chosen: what the paper's setting leaves open, or this one does otherwise, and how the verdicts depend on it.
        refine: makes further columns of the table of all cells of one kind, before claims are judged.
    """

    paper: str
    name: str
    content: str
    title: str
    about: str
    cells: Callable[[Size], Sequence[Measurement]]
    claims: tuple[Claim, ...]
    draw: Callable[[Sequence[Axes], Table], None]
    panels: int = 1
    chosen: tuple[str, ...] = ()
    refine: Callable[[Table], Table] = field(default=lambda table: table)

    @property
    def path(self) -> str:
        """Its name with the paper's."""
        return f"{self.paper}/{self.name}"


def by_seed(table: Table, column: str, **where: Any) -> Mapping[int, float]:
    """The values of a column by seed, of the rows that are so."""
    for name, value in where.items():
        table = table[table[name] == value] if name in table else table.iloc[:0]
    return dict(zip(table["seed"], table[column], strict=True)) if column in table else {}


def paired(two: Iterable[Mapping[int, float]], made: Callable[[float, float], float]) -> list[float]:
    """What is made of the values of the same seeds in two of them."""
    one, other = two
    return [made(one[seed], other[seed]) for seed in one if seed in other]


def largest(table: Table, column: str) -> Any:
    """The largest value of a column."""
    return table[column].max()
