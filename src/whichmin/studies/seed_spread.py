"""The result of :func:`whichmin.seeds`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class SeedSpread:
    """The minimizers of n initializations, seeds 0 … n − 1.

    Attributes:
        test: predicted test outputs, (n, n_test, C).
        y_test: test targets, (n_test, C), or None.
        error: estimated root mean square error of each prediction, (n,), float64, in the units of the outputs.
        labels: the class that each network decides for, (n, n_test), int64: for one output the side of the middle of
            the two target values (of 0 where there are not two), for several the largest output.
        seconds: what it took.
        notes: what the predictions remarked, each with its seed.
    """

    test: Tensor
    y_test: Tensor | None
    error: Tensor
    labels: Tensor
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> Tensor:
        """Mean output over seeds, (n_test, C): the prediction of the ensemble."""
        return self.test.mean(dim=0)

    @property
    def seed_std(self) -> Tensor:
        """Standard deviation over seeds, (n_test, C), with n − 1 in the denominator."""
        return self.test.std(dim=0)

    @property
    def majority(self) -> Tensor:
        """The label that most seeds decide for, (n_test,), int64; of several the least."""
        votes = torch.nn.functional.one_hot(self.labels).sum(dim=0)
        return torch.from_numpy(votes.numpy().argmax(axis=-1))

    @property
    def flip_probability(self) -> Tensor:
        """Share of seeds whose label is not the majority's, (n_test,), float64."""
        return (self.labels != self.majority).double().mean(dim=0)

    @property
    def test_error(self) -> Tensor | None:
        """Mean square test error of each seed, (n,), float64; None without test targets."""
        if self.y_test is None:
            return None
        return (self.test.double() - self.y_test.double()).square().flatten(1).mean(dim=1)

    def to_frame(self) -> pd.DataFrame:
        """One row per test point and output: ``point``, ``output``, ``mean``, ``seed_std``, ``majority``, flips."""
        import pandas as pd

        n, outputs = self.mean.shape
        columns = {
            "point": torch.arange(n).repeat_interleave(outputs),
            "output": torch.arange(outputs).repeat(n),
            "mean": self.mean.double().reshape(-1),
            "seed_std": self.seed_std.double().reshape(-1),
            "majority": self.majority.repeat_interleave(outputs),
            "flip_probability": self.flip_probability.repeat_interleave(outputs),
        }
        if self.y_test is not None:
            columns["target"] = self.y_test.double().reshape(-1)
        return pd.DataFrame({name: column.cpu().numpy() for name, column in columns.items()})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a result folder (see ``whichmin.storage``)."""
        from whichmin.storage import save_folder

        arrays = {"test": self.test, "error": self.error, "labels": self.labels}
        if self.y_test is not None:
            arrays["y_test"] = self.y_test
        save_folder(path, {"kind": "seeds", "seconds": self.seconds, "notes": list(self.notes)}, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SeedSpread:
        """Read a folder that :meth:`save` wrote."""
        from whichmin.storage import load_folder

        config, arrays, _ = load_folder(path, "seeds")
        return cls(
            arrays["test"],
            arrays.get("y_test"),
            arrays["error"],
            arrays["labels"],
            config["seconds"],
            tuple(config["notes"]),
        )
