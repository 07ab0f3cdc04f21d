from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from whichmin.infinite import FullyConnected


@dataclass(frozen=True)
class Reference:
    """Arrays of neural-tangents 0.6.5, made by benchmarks/peers/infinite_reference.py."""

    values: np.ndarray
    index: dict[str, Any]
    cases: list[dict[str, Any]]

    def __getitem__(self, name: str) -> Tensor:
        start, shape = self.index[name]
        return torch.from_numpy(self.values[start : start + int(np.prod(shape))].reshape(shape))

    def description(self, case: dict[str, Any]) -> FullyConnected:
        standard = case["parametrization"] == "standard"
        return FullyConnected(
            case["depth"],
            case["activation"],
            case["weight_std"],
            case["bias_std"],
            case["parametrization"],
            case["widths"] if standard else None,
            case["negative_slope"],
        )


@pytest.fixture(scope="session")
def reference() -> Reference:
    with np.load(Path(__file__).parent / "reference.npz") as file:
        return Reference(file["values"], json.loads(str(file["index"])), json.loads(str(file["cases"])))
