"""What the verbs return: saved, loaded, put into a data frame, drawn and reported in one way.

A :class:`Result` is a dataclass. Its fields are what is saved: tensors, arrays and plain values, containers and
dataclasses of them; a field that is a result itself becomes a folder within. A result does not know how it looks:
``plot`` and ``report`` ask for the :class:`View` that was registered for its type.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from whichmin.devices import default_device_aside
from whichmin.errors import InputError, ResultError
from whichmin.packing import NOT_SAVED, Packed, pack_fields, unpack_fields
from whichmin.shown import Shown
from whichmin.storage import load_folder, located, save_folder, write_text

if TYPE_CHECKING:
    from typing import Self

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

__all__ = ["NOT_SAVED", "VIEWS", "Result", "Saved", "View", "by_point", "register_view", "view_of"]

R = TypeVar("R")

#: The module that registers whichmin's views. It is imported by its name when a view is first asked for, because it
#: imports the results that it shows.
VIEWS = "whichmin.report.views"


class Saved(Shown):
    """What is written to a folder and read back. A subclass is a dataclass with a ``kind``.

    Attributes:
        kind: what ``config.json`` calls it; different for every class.
    """

    kind: ClassVar[str]

    @default_device_aside()
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder: ``config.json``, ``arrays.safetensors``, and a folder for each result that this one holds.

        What is in memory only, such as the network's class, is left out; its parameters are there.

        Raises:
            OutputError: the place cannot be written to, or holds something that is not a result of whichmin.
        """
        packed = Packed()
        config = {"kind": self.kind, "fields": pack_fields(self._content(), "", packed)}
        save_folder(path, config, packed.arrays, parts={name: part.save for name, part in packed.results.items()})

    @classmethod
    @default_device_aside()
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a folder that :meth:`save` wrote.

        Raises:
            ResultError: there is no result there, it is damaged, or of another kind.
        """
        source = located(path)
        config, arrays, _ = load_folder(source, cls.kind)

        def part(kind: Any, name: str) -> Any:
            return kind.load(source / name)

        try:
            return cls._restored(unpack_fields(config["fields"], cls._content_class(), arrays, part))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ResultError):
                raise
            raise ResultError(
                f"{source} is damaged ({type(error).__name__}: {error}): save the result again."
            ) from error

    def _content(self) -> Any:
        """The dataclass whose fields are saved: the result itself, unless it is not one."""
        return self

    @classmethod
    def _content_class(cls) -> type:
        """The class of :meth:`_content`."""
        return cls

    @classmethod
    def _restored(cls, content: Any) -> Self:
        """The result of what :meth:`_content` gave."""
        return content


class Result(Saved):
    """The base of what verbs return."""

    @default_device_aside()
    def to_frame(self) -> pd.DataFrame:
        """The result as a table; its class says what the rows and columns are.

        Raises:
            ResultError: this type, or this result, has none.
        """
        import pandas as pd

        return pd.DataFrame({name: _host(column) for name, column in self._columns().items()})

    @default_device_aside()
    def plot(self, *, ax: Axes | None = None, axes: Sequence[Axes] | None = None) -> Figure:
        """What the result shows at a glance, a matplotlib figure.

        A notebook shows it where it is the value of a cell, or passed to ``display``, without ``%matplotlib inline``
        first. ``pyplot`` does not know it: in a script save it, or draw into axes of ``pyplot``, whose ``show`` opens a
        window.

        Args:
            ax: what to draw into, where the figure has one panel; None for a figure of its own.
            axes: the same, where it has several: as many, row by row.

        Returns:
            The figure, or the one that the axes are in.

        Raises:
            InputError: another number of axes than panels; the message says how many these are.
            ResultError: nothing is registered that draws this type, or this result has not what would be drawn.
        """
        if ax is not None and axes is not None:
            raise InputError("got ax and axes: pass ax for one panel, or axes for several.")
        figure = view_of(type(self)).figure(self, axes if ax is None else [ax])
        if figure is None:
            raise ResultError(f"this {self.kind} holds nothing that could be drawn.")
        return figure

    @default_device_aside()
    def report(self, path: str | os.PathLike[str], title: str | None = None) -> None:
        """Write one self-contained HTML file that opens offline.

        Args:
            path: the file; folders above it are made, a file of that name is replaced.
            title: the heading; None for that of the kind of report.

        Raises:
            OutputError: the file cannot be written.
            ResultError: nothing is registered that shows this type.
        """
        write_text(path, view_of(type(self)).page(self, title))

    def _finding(self) -> Sequence[str]:
        try:
            return view_of(type(self)).finding(self)
        except ResultError:  # nothing shows this type, or this result has not ended
            return ()

    def _columns(self) -> Mapping[str, Any]:
        """The columns of :meth:`to_frame` by name: tensors or sequences of one length."""
        raise ResultError(f"a {self.kind} has no table.")


@dataclass(frozen=True)
class View(Generic[R]):
    """How a type of results is shown.

    Attributes:
        figure: draws one into these axes, one for each panel, row by row, or into a figure of its own for None; None
            where it has not what would be drawn.
        page: one as a self-contained HTML page; the second argument is the heading, None for the usual one.
        finding: what came out, in sentences.
    """

    figure: Callable[[R, Sequence[Axes] | None], Figure | None]
    page: Callable[[R, str | None], str]
    finding: Callable[[R], Sequence[str]] = lambda _: ()


_VIEWS: dict[type, View[Any]] = {}


def register_view(kind: type[R], view: View[R]) -> None:
    """Show results of a class, and of those derived from it that have no view of their own, in this way."""
    _VIEWS[kind] = view


def view_of(kind: type[R]) -> View[R]:
    """The view that is registered for a class or the nearest of its bases.

    Raises:
        ResultError: there is none.
    """
    importlib.import_module(VIEWS)
    for base in kind.__mro__:
        if base in _VIEWS:
            return _VIEWS[base]
    raise ResultError(f"nothing shows a {kind.__name__}: register a view, whichmin.results.register_view.")


def by_point(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Columns of a table with a row per point and output, after ``point`` and ``output``, their numbers.

    Args:
        columns: (n, C) each, the first one; others may be (n,), the same for all outputs of a point, or
            (n·positions,), the same for the C/positions outputs of a position.
    """
    import torch

    n, outputs = next(iter(columns.values())).shape
    numbers = {"point": torch.arange(n).repeat_interleave(outputs), "output": torch.arange(outputs).repeat(n)}
    return numbers | {
        name: column.repeat_interleave(n * outputs // len(column)) if column.ndim == 1 else column.reshape(-1)
        for name, column in columns.items()
    }


def _host(column: Any) -> Any:
    """A column as pandas takes it; floating-point tensors as float64."""
    if not hasattr(column, "is_floating_point"):
        return column
    return (column.detach().double() if column.is_floating_point() else column).cpu().numpy()
