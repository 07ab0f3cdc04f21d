"""What sweeps asked of a store, kept there: it says by itself what is left."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whichmin.errors import ResultError
from whichmin.jobs.store import Store
from whichmin.storage import write_text
from whichmin.studies.sweeping.grid import Grid

#: Values of a key that its line has one by one.
LISTED = 4


@dataclass(frozen=True)
class Request:
    """What one sweep asked of a store.

    The same grids again, also of another version or of data that changed, take the place of the request before.

    Attributes:
        grids: the values of the keys of each grid, as text.
        runs: what each of its runs is about, by the name that it has in the store.
    """

    grids: tuple[Mapping[str, Sequence[str]], ...]
    runs: Mapping[str, str]

    @classmethod
    def of(cls, grids: Sequence[Grid], runs: Mapping[str, str]) -> Request:
        """That of some grids."""
        return cls(tuple(grid.said for grid in grids), runs)

    @property
    def label(self) -> str:
        """Its grids in a line, such as ``scale=0.5,1.0 seeds=0,…,9``."""
        return "; ".join(" ".join(f"{key}={_listed(values)}" for key, values in grid.items()) for grid in self.grids)

    def write(self, store: Store) -> None:
        """Keep it in a store, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        said = json.dumps(self.grids)
        name = hashlib.sha256(said.encode()).hexdigest()[:16]
        write_text(_place(store) / f"{name}.json", json.dumps(vars(self), indent=1) + "\n")


def requests_in(store: Store) -> list[Request]:
    """All that was asked of a store, the last one last.

    Raises:
        ResultError: a file that is damaged.
    """
    files = sorted(_place(store).glob("*.json"), key=lambda file: (file.stat().st_mtime, file.name))
    return [_read(file) for file in files]


def _read(file: Path) -> Request:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return Request(tuple(said["grids"]), dict(said["runs"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultError(
            f"{file} is damaged ({type(error).__name__}: {error}): remove it, and start that sweep again."
        ) from error


def _place(store: Store) -> Path:
    return store.out / "sweeps"


def _listed(values: Sequence[str]) -> str:
    return ",".join(values if len(values) <= LISTED else [values[0], "…", values[-1]])
