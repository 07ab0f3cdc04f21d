"""Locks between processes, also of several machines, that a process which dies does not hold for ever.

A lock is a folder with a file that says who holds it. It is made under a temporary name and renamed, which succeeds for
one process alone, on network file systems too. The holder touches the file as long as it lives. Whoever finds a lock
whose holder is dead makes the next one, ``NAME.1`` after ``NAME.0``: locks of the dead are never taken away from under
those who look at them, so that of two who find one the second does not take the first one's.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import tempfile
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from whichmin.storage import temporary_name

#: Seconds between two signs of life of a holder.
BEAT = 5.0
#: Seconds without a sign of life after which a holder on another machine counts as dead.
SILENT = 90.0
_OWNER = "owner.json"


@dataclass(frozen=True)
class Holder:
    """A process.

    Attributes:
        machine: where it runs: host, boot, and namespace of process numbers.
        pid: its number there.
        started: when it started, in the machine's own count, which tells it from a later process of the same number.
        host: the machine's name, for people.
    """

    machine: str
    pid: int
    started: str
    host: str

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls(_machine(), os.getpid(), _state_of(os.getpid())[1], platform.node())

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.machine == _machine()

    @property
    def is_alive(self) -> bool:
        """Whether there is such a process on this machine."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        state, started = _state_of(self.pid)
        return state not in ("Z", "X") and started == self.started


class Lock:
    """A lock that this process holds; :meth:`release` gives it back.

    Args:
        folder: where the locks are.
        name: what is locked.
        generation: how many holders before it died.
    """

    def __init__(self, folder: Path, name: str, generation: int) -> None:
        self.folder, self.name, self.generation = folder, name, generation
        self._released = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)
        self._beats.start()

    @classmethod
    def acquire(cls, folder: Path, name: str) -> Lock | None:
        """The lock of that name; None where a living process holds it.

        Raises:
            OSError: nothing can be written there.
        """
        while True:
            newest = _newest(folder, name)
            if newest is not None and is_held(folder, name, newest):
                return None
            before = None if newest is None else _place(folder, name, newest)
            generation = 0 if newest is None else newest + 1
            if not _make(folder, name, generation):
                continue
            lock = cls(folder, name, generation)
            if before is None or before.exists():
                return lock
            # Who took over from the dead one gave the lock back in between, so that another may have the first one.
            lock._end(_place(folder, name, generation))

    def release(self) -> None:
        """Give it back, the locks of dead holders before it first, so that there is never one without an owner."""
        self._end(*(_place(self.folder, self.name, generation) for generation in range(self.generation + 1)))

    def _end(self, *places: Path) -> None:
        self._released.set()
        self._beats.join()
        for place in places:
            _remove(place)

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(_place(self.folder, self.name, self.generation) / _OWNER)


def holder_of(folder: Path, name: str) -> Holder | None:
    """The living process that holds a lock; None where there is none."""
    newest = _newest(folder, name)
    if newest is None or not is_held(folder, name, newest):
        return None
    return _read(_place(folder, name, newest))


def is_dead(folder: Path, name: str) -> bool:
    """Whether there is a lock whose holder died."""
    newest = _newest(folder, name)
    return newest is not None and not is_held(folder, name, newest)


def is_held(folder: Path, name: str, generation: int) -> bool:
    """Whether the holder of a lock is alive: on this machine by its number, elsewhere by its signs of life."""
    place = _place(folder, name, generation)
    holder = _read(place)
    if holder is None:
        return False
    return holder.is_alive if holder.is_here else _is_touched(folder, place / _OWNER)


def _newest(folder: Path, name: str) -> int | None:
    """The last holder's generation; those before it may be gone, as one may die while it gives its lock back."""
    return max((int(place.suffix[1:]) for place in folder.glob(f"{name}.*")), default=None)


def _make(folder: Path, name: str, generation: int) -> bool:
    """Make a lock of this process; whether there was none."""
    place = _place(folder, name, generation)
    if place.exists():
        return False
    temporary = temporary_name(folder / name)
    temporary.mkdir()
    try:
        (temporary / _OWNER).write_text(json.dumps(vars(Holder.here())))
        os.rename(temporary, place)
    except FileExistsError:
        return False
    except OSError:
        if place.exists():
            return False
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _remove(place: Path) -> None:
    """Take a lock away at once: under another name first, as a folder is removed file by file."""
    gone = temporary_name(place)
    with contextlib.suppress(OSError):
        os.rename(place, gone)
        shutil.rmtree(gone, ignore_errors=True)


def _place(folder: Path, name: str, generation: int) -> Path:
    return folder / f"{name}.{generation}"


def _read(place: Path) -> Holder | None:
    """Who made a lock; None where it is gone."""
    try:
        said: dict[str, Any] = json.loads((place / _OWNER).read_text())
        return Holder(**said)
    except (OSError, ValueError, TypeError):
        return None


def _is_touched(folder: Path, file: Path) -> bool:
    """Whether a file changed lately, by the clock of the file system, which all machines see."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".now-", dir=folder) as now, file.open("rb") as there:
            now.write(b".")
            now.flush()
            # Open files have fresh times where a network file system keeps old ones of closed files.
            return os.fstat(now.fileno()).st_mtime - os.fstat(there.fileno()).st_mtime < SILENT
    except OSError:
        return False


@cache
def _machine() -> str:
    """This machine since it was started, and the namespace in which process numbers are its own."""
    boot, numbers = Path("/proc/sys/kernel/random/boot_id"), "/proc/self/ns/pid"
    with contextlib.suppress(OSError):
        return f"{platform.node()} {boot.read_text().strip()} {os.readlink(numbers)}"
    return platform.node()


def _state_of(pid: int) -> tuple[str, str]:
    """State and start of a process as Linux says them; empty elsewhere."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return after_name[0], after_name[19]
