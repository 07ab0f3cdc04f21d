"""Jobs that cost nothing, for the machinery that does them; the file is read by other processes, too."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whichmin.errors import InputError, OutputError
from whichmin.jobs.store import Question, Store


@dataclass(frozen=True)
class Square:
    """n², counted in a file each time that it is computed.

    ``what`` says what becomes of it: "done", "fails", "breaks", "full", or "dies", the first so many ``times``.
    """

    n: int
    log: str
    what: str = "done"
    times: int = 99
    kept: bool = True
    seconds: float = 0.0
    failures = (InputError,)

    @property
    def question(self) -> Question | None:
        return Question({"kind": "square", "n": self.n}) if self.kept else None

    def compute(self) -> int:
        with Path(self.log).open("a") as file:
            file.write(f"{self.n}\n")
        time.sleep(self.seconds)
        if computed(self.log).count(self.n) <= self.times:
            if self.what == "fails":
                raise InputError(f"{self.n} has no square.")
            if self.what == "breaks":
                raise ZeroDivisionError(f"at {self.n}")
            if self.what == "full":
                raise OutputError("no space left on device.")
            if self.what == "dies":
                os._exit(1)
        return self.n**2

    def keep(self, store: Store, question: Question, answer: int) -> None:
        store.write(question, {"square": answer}, {})

    def read(self, place: Path, config: dict[str, Any], arrays: dict[str, Any]) -> int:
        return config["square"]


def computed(log: str | Path) -> list[int]:
    """The numbers that were computed, in order."""
    return [int(line) for line in Path(log).read_text().split()] if Path(log).exists() else []
