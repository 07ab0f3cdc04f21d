"""Remedies: what takes the initialization's part out of the trained network, and what each would bring beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from whichmin._lazy import lazily

if TYPE_CHECKING:
    from whichmin.mitigation.antisymmetric import Antisymmetric
    from whichmin.mitigation.as_it_is import AsItIs
    from whichmin.mitigation.centered import Centered
    from whichmin.mitigation.ensemble import Ensemble
    from whichmin.mitigation.jump import Jump
    from whichmin.mitigation.method import Method
    from whichmin.mitigation.mitigation import Gain, Mitigation
    from whichmin.mitigation.networks import (
        AntisymmetricNetwork,
        CenteredNetwork,
        EnsembleNetwork,
        SubtractedNetwork,
    )
    from whichmin.mitigation.outcome import Outcome, Remedy, Search
    from whichmin.mitigation.scale_search import ScaleSearch
    from whichmin.mitigation.scaling import scaled, unscaled
    from whichmin.mitigation.subtract import Subtract
    from whichmin.mitigation.zero_last_layer import ZeroLastLayer

_HOME = {
    "Antisymmetric": "antisymmetric",
    "AntisymmetricNetwork": "networks",
    "AsItIs": "as_it_is",
    "Centered": "centered",
    "CenteredNetwork": "networks",
    "Ensemble": "ensemble",
    "EnsembleNetwork": "networks",
    "Gain": "mitigation",
    "Jump": "jump",
    "Method": "method",
    "Mitigation": "mitigation",
    "Outcome": "outcome",
    "Remedy": "outcome",
    "ScaleSearch": "scale_search",
    "Search": "outcome",
    "Subtract": "subtract",
    "SubtractedNetwork": "networks",
    "ZeroLastLayer": "zero_last_layer",
    "scaled": "scaling",
    "unscaled": "scaling",
}

__all__ = [
    "Antisymmetric",
    "AntisymmetricNetwork",
    "AsItIs",
    "Centered",
    "CenteredNetwork",
    "Ensemble",
    "EnsembleNetwork",
    "Gain",
    "Jump",
    "Method",
    "Mitigation",
    "Outcome",
    "Remedy",
    "ScaleSearch",
    "Search",
    "Subtract",
    "SubtractedNetwork",
    "ZeroLastLayer",
    "scaled",
    "unscaled",
]

__getattr__ = lazily(__name__, {name: f"whichmin.mitigation.{module}" for name, module in _HOME.items()})


def __dir__() -> list[str]:
    return sorted(__all__)
