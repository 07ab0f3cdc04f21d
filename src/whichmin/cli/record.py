"""What a report is about, whole: shown on its page, and written beside it as a file that asks the same again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whichmin.cli.asked import MADE, Asked, made_of

if TYPE_CHECKING:
    from whichmin.task import Task


@dataclass(frozen=True)
class Record:
    """A command with all that its numbers depend on.

    Attributes:
        command: its name.
        values: every option by key, resolved; what is None is left out of the file.
        made: what it was made with and when: the fingerprint of the data, versions, the date.
        differences: in what that differs from the file that was asked by, a sentence each.
    """

    command: str
    values: Mapping[str, Any]
    made: Mapping[str, Any]
    differences: tuple[str, ...] = ()

    @classmethod
    def of(cls, command: str, values: Mapping[str, Any], task: Task, config: Path | None = None) -> Record:
        """The record of a command that was just done.

        Args:
            command: its name.
            values: every option by key.
            task: all of its data.
            config: the file that was asked by; None for none.
        """
        from whichmin.storage import versions
        from whichmin.studies.subject import fingerprint

        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = {"command": command, "fingerprint": fingerprint(task), "versions": versions(), "date": now}
        return cls(command, values, made, tuple(_differences(made_of(config) or {}, made, config)))

    @classmethod
    def of_asked(cls, asked: Asked, task: Task) -> Record:
        """The same of what was asked, with optimizers as the command line writes them."""
        optimizers = [named.text for named in asked.experiment.optimizer]
        return cls.of(asked.command, asked.to_dict() | {"optimizer": optimizers}, task, asked.config)

    def page(self, out: Path) -> dict[str, Any]:
        """As a report shows it: names and values."""
        shown = {name: value for name, value in self.values.items() if name not in ("n_train", "n_test") or value}
        if "hidden" in shown:
            shown["hidden"] = _layers(shown["hidden"])
        said = {"command": f"whichmin {self.command}"} | shown
        said |= {"data fingerprint": self.made["fingerprint"]}
        said |= {"versions": [f"{name} {version}" for name, version in self.made["versions"].items()]}
        said |= {"run again": f"whichmin {self.command} --config {self.file(out)}"}
        return said | ({"differs": list(self.differences)} if self.differences else {})

    def file(self, out: Path) -> Path:
        """Where :meth:`write` writes it."""
        return (out / f"{self.command}.toml").resolve()

    def write(self, out: Path) -> dict[str, Path]:
        """Write it beside the report.

        Returns:
            The file, by what it is.

        Raises:
            OutputError: it cannot be written.
        """
        from whichmin.storage import write_text

        lines = [f"# whichmin {self.command} --config {self.command}.toml asks the same again."]
        lines += [f"{name} = {to_toml(value)}" for name, value in _findable(self.values).items() if value is not None]
        lines += ["", f"# What it was made with; where that differs, whichmin {self.command} says so.", f"[{MADE}]"]
        lines += [f"{name} = {to_toml(value)}" for name, value in self.made.items()]
        write_text(self.file(out), "\n".join(lines) + "\n")
        return {"toml": self.file(out)}


def to_toml(value: Any) -> str:
    """A value as TOML has it; None within lists is ``"none"``."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(str(k))} = {to_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps("none" if value is None else str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _layers(hidden: Sequence[Any]) -> list[str]:
    """Networks as the command line writes them."""
    networks = hidden if all(isinstance(layers, list | tuple) for layers in hidden) else [hidden]
    return ["-".join(map(str, layers)) for layers in networks]


def _findable(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with data that are a file or a folder named by its whole path."""
    from whichmin.data.load import NAMES

    path = Path(values["data"]).expanduser()
    known = values["data"] in NAMES or not path.exists()
    return dict(values) | ({} if known else {"data": str(path.resolve())})


def _differences(before: Mapping[str, Any], made: Mapping[str, Any], config: Path | None) -> Sequence[str]:
    said = []
    if before.get("command") not in (None, made["command"]):
        said.append(f"{config} was written by whichmin {before['command']}, and this is whichmin {made['command']}.")
    if before.get("fingerprint") not in (None, made["fingerprint"]):
        said.append(
            f"The data are not those of {config}: their fingerprint is {made['fingerprint']}, and was "
            f"{before['fingerprint']}."
        )
    then = before.get("versions", {})
    changed = [f"{n} {v} (was {then[n]})" for n, v in made["versions"].items() if n in then and then[n] != v]
    if changed:
        said.append(f"Versions are not those of {config}: {', '.join(changed)}.")
    return said
