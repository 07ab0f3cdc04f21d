"""Errors come back from other processes as what they are."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from whichmin import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.WhichminError)]


def made(kind):
    if issubclass(kind, errors.TrainingError):
        return kind("it broke", state={"w": torch.ones(2)}, step=3, losses=[1.0])
    return kind("it broke", 0.5) if issubclass(kind, errors.DivergenceError) else kind("it broke")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_dask", [False, True])
def test_an_error_comes_back(kind, by_dask):
    error = made(kind)
    if by_dask:  # it replaces how errors are pickled, for the whole process
        pytest.importorskip("tblib.pickling_support").install()
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(back) is kind
        assert str(back) == "it broke"
        assert vars(back).keys() == vars(error).keys()
        assert vars(back).get("limit") == vars(error).get("limit")
        assert vars(back).get("step") == vars(error).get("step")
        if isinstance(back, errors.TrainingError):
            assert torch.equal(back.state["w"], torch.ones(2))
