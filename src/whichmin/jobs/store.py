"""Finished runs on disk: a folder each, named by the hash of all that its numbers depend on.

A run is read back only for a question that is the same in every part: version, data, network, recipe, settings. What
failed is kept beside it, with the reason, and who is at work on what. It is files alone, for network file systems.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from whichmin._version import __version__
from whichmin.errors import OutputError, ResultError
from whichmin.jobs.locks import Lock, holder_of, is_dead

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

#: The layout of a store that this version reads and writes.
FORMAT = 1
_LABEL = "store.json"


@dataclass(frozen=True)
class Question:
    """What an answer depends on, resolved to plain values.

    Attributes:
        values: by name; ``kind`` says what the answer is.
    """

    values: dict[str, Any]

    @property
    def key(self) -> str:
        """Its hash."""
        return hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """What its answer is called in a store."""
        return f"{self.values['kind']}-{self.key}"


def versions() -> dict[str, str]:
    """The versions that answers depend on."""
    import torch

    return {"whichmin": __version__, "torch": torch.__version__}


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Attributes:
        error: the class of the error, by name.
        message: what it said.
    """

    error: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """An error, in words."""
        return cls(type(error).__name__, str(error) or type(error).__name__)

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Standing:
    """How far a question is; one of which nothing is known is left.

    Attributes:
        config: the configuration of its answer; None where there is none.
        is_running: whether a living process is at it.
        failure: why there is no answer.
    """

    config: dict[str, Any] | None = None
    is_running: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class Store:
    """A folder of finished runs.

    ``runs`` holds a folder for each, ``failures`` a file for each that failed, and ``locks`` says who is at work.
    """

    out: Path

    @classmethod
    def open(cls, out: str | os.PathLike[str]) -> Store:
        """The store in a folder, made where there is none.

        Raises:
            OutputError: files cannot be written there.
            ResultError: it was written in another layout.
        """
        store = cls(Path(out))
        try:
            for folder in (store.runs, store.failures, store.locks):
                folder.mkdir(parents=True, exist_ok=True)
            for folder in (store.out, store.runs):
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise OutputError(f"cannot write to {out}: {error.strerror}. Choose a folder you may write to.") from error
        store._check_format()
        store._label()
        return store

    @classmethod
    def existing(cls, out: str | os.PathLike[str]) -> Store:
        """The store in a folder, to be read alone; one that is not there is empty.

        Raises:
            ResultError: it was written in another layout.
        """
        store = cls(Path(out))
        store._check_format()
        return store

    @property
    def runs(self) -> Path:
        """The folder of finished runs."""
        return self.out / "runs"

    @property
    def failures(self) -> Path:
        """The folder of reasons why there is no run."""
        return self.out / "failures"

    @property
    def locks(self) -> Path:
        """The folder that says who is at work."""
        return self.out / "locks"

    def place(self, question: Question) -> Path:
        """The folder of its answer."""
        return self.runs / question.name

    def has(self, question: Question) -> bool:
        """Whether there is an answer, without reading it."""
        from whichmin.storage import located

        return (located(self.place(question)) / "config.json").exists()

    def read(self, question: Question, make: Callable[[Path, dict[str, Any], dict[str, Tensor]], T]) -> T | None:
        """The answer that ``make`` makes of a folder, its configuration and arrays; None where none can be read."""
        from whichmin.storage import load_folder, located

        place = located(self.place(question))
        try:
            config, arrays, _ = load_folder(place, question.values["kind"])
            return make(place, config, arrays) if config["question"] == question.values else None
        except (ResultError, OSError, KeyError, TypeError, ValueError):
            return None

    def write(
        self,
        question: Question,
        about: Mapping[str, Any],
        arrays: Mapping[str, Tensor],
        parts: Mapping[str, Callable[[Path], object]] | None = None,
    ) -> None:
        """Keep an answer: there whole or not at all. A failure that was kept is forgotten.

        Args:
            question: what it answers.
            about: further plain values, for :meth:`read` and for a reader of the folder.
            arrays: tensors by name.
            parts: results within, each written by a function of its path.

        Raises:
            OutputError: it cannot be written.
        """
        from whichmin.storage import save_folder

        config = dict(about) | {"kind": question.values["kind"], "question": question.values}
        save_folder(self.place(question), config, arrays, parts=parts)
        self._reason(question.name).unlink(missing_ok=True)

    def failure(self, question: Question) -> Failure | None:
        """Why there is no answer; None where none was tried."""
        return self._failure(question.name)

    def standing(self, name: str) -> Standing:
        """How far the question is whose answer has that name; nothing else need be known of it."""
        from whichmin.storage import load_folder, located

        with contextlib.suppress(ResultError, OSError, KeyError, TypeError, ValueError):
            config, _, _ = load_folder(located(self.runs / name), name.rpartition("-")[0])
            if Question(config["question"]).name == name:
                return Standing(config)
        if holder_of(self.locks, name) is not None:
            return Standing(is_running=True)
        return Standing(failure=self._failure(name))

    def write_failure(self, question: Question, failure: Failure) -> None:
        """Keep why there is no answer.

        Raises:
            OutputError: it cannot be written.
        """
        from whichmin.storage import write_text

        said = vars(failure) | {"question": question.values}
        write_text(self._reason(question.name), json.dumps(said, indent=2) + "\n")

    @contextlib.contextmanager
    def claim(self, question: Question) -> Iterator[Lock | None]:
        """The sole right to answer a question while the context lasts; None where a living process has it.

        Raises:
            OutputError: files cannot be written there.
        """
        try:
            lock = Lock.acquire(self.locks, question.name)
        except OSError as error:
            raise OutputError(f"cannot write to {self.locks}: {error.strerror}.") from error
        try:
            if lock is not None and lock.generation:
                self._remove_unfinished(question)
            yield lock
        finally:
            if lock is not None:
                lock.release()

    def is_claimed(self, question: Question) -> bool:
        """Whether a living process is at work on it."""
        return holder_of(self.locks, question.name) is not None

    def is_abandoned(self, question: Question) -> bool:
        """Whether a process died over it."""
        return is_dead(self.locks, question.name)

    def clear(self, question: Question) -> None:
        """Take away what a process left that died after it kept the answer.

        Raises:
            OutputError: files cannot be written there.
        """
        if self.is_abandoned(question):
            with self.claim(question):
                pass

    def _reason(self, name: str) -> Path:
        return self.failures / f"{name}.json"

    def _failure(self, name: str) -> Failure | None:
        try:
            said = json.loads(self._reason(name).read_text(encoding="utf-8"))
            return Failure(said["error"], said["message"]) if Question(said["question"]).name == name else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _remove_unfinished(self, question: Question) -> None:
        """Remove what a process left that died while it wrote this answer."""
        for folder in self.runs.glob(f".{question.name}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _check_format(self) -> None:
        try:
            label = json.loads((self.out / _LABEL).read_text(encoding="utf-8"))
            there, version = int(label["format"]), str(label["whichmin"])
        except FileNotFoundError:
            return  # nothing, or a folder of runs from before they had a label, in the first layout
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultError(
                f"{self.out / _LABEL} is damaged ({type(error).__name__}: {error}), so that the layout of the store is "
                f'not known: write {{"format": {FORMAT}, "whichmin": "{__version__}"}} into it if this version made '
                "it, or choose another folder."
            ) from error
        if there != FORMAT:
            what = f"{self.out} is a store of layout {there}, written by whichmin {version}; this is {__version__}"
            raise ResultError(
                f"{what}, which reads layout {FORMAT}. To go on with it install that version, pip install "
                f"'whichmin=={version}'; to migrate, write its table with that version (whichmin sweep CONFIG --store "
                f"{self.out} --csv FILE) and let this one begin in another folder."
            )

    def _label(self) -> None:
        from whichmin.storage import write_text

        if not (self.out / _LABEL).exists():
            write_text(self.out / _LABEL, json.dumps({"format": FORMAT, "whichmin": __version__}) + "\n")
