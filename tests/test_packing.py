"""Trees of values as JSON beside arrays."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from whichmin import Task
from whichmin.packing import NOT_SAVED, Packed, pack, pack_fields, unpack_fields
from whichmin.storage import from_json, to_json


@dataclasses.dataclass
class Leaf:
    """A part."""

    x: float
    tensor: torch.Tensor | None = None


@dataclasses.dataclass
class Tree:
    """One field of each kind."""

    anything: Any
    leaf: Leaf | None
    leaves: tuple[Leaf, ...]
    by_name: dict[str, Leaf | None]
    by_number: dict[float, list[int]]
    tensors: dict[str, dict[str, torch.Tensor]]
    array: np.ndarray
    left_out: object = dataclasses.field(default="default", metadata=NOT_SAVED)


def round_trip(tree: Any) -> Any:
    packed = Packed()
    text = to_json(pack_fields(tree, "", packed), sort_keys=True)
    return unpack_fields(from_json(text), type(tree), packed.arrays, lambda *_: None)


def tree(**given: Any) -> Tree:
    values: dict[str, Any] = {
        "anything": {"b": [1, True, None, "text"], "a": (math.inf, -math.inf, 0.1, np.float64(0.5), np.int64(3))},
        "leaf": Leaf(math.nan),
        "leaves": (Leaf(1.0, torch.ones(2, dtype=torch.bfloat16)), Leaf(2.0)),
        "by_name": {"z": Leaf(3.0), "a": None},
        "by_number": {0.5: [1, 2], 0.05: []},
        "tensors": {"a.b": {"c": torch.zeros(1)}, "a": {"b.c": torch.ones(1)}},
        "array": np.arange(6)[::-2],
    }
    return Tree(**(values | given))


def test_everything_comes_back():
    before = tree(left_out=object())
    after = round_trip(before)
    assert after.anything == before.anything
    assert list(after.anything) == ["b", "a"], "the order of names is kept"
    assert isinstance(after.anything["b"], list)
    assert isinstance(after.anything["a"], tuple)
    assert math.isnan(after.leaf.x)
    assert after.leaves[1] == Leaf(2.0)
    assert torch.equal(after.leaves[0].tensor, before.leaves[0].tensor)
    assert after.leaves[0].tensor.dtype == torch.bfloat16
    assert after.by_name == before.by_name
    assert list(after.by_name) == ["z", "a"]
    assert after.by_number == {0.5: [1, 2], 0.05: []}
    np.testing.assert_array_equal(after.array, before.array)
    assert after.left_out == "default"


def test_names_that_look_alike_do_not_collide():
    after = round_trip(tree())
    assert after.tensors["a.b"]["c"].item() == 0
    assert after.tensors["a"]["b.c"].item() == 1


def test_a_task_with_its_loss():
    before = Task(torch.ones(2, 3), torch.ones(2))
    packed = Packed()
    fields = pack_fields(before, "task.", packed)
    assert set(packed.arrays) == {"task.X", "task.y"}
    after = unpack_fields(fields, Task, packed.arrays, lambda *_: None)
    assert after.loss == before.loss
    assert after.X_test is None
    assert torch.equal(after.y, before.y)


def test_what_cannot_be_saved():
    with pytest.raises(TypeError, match=r"tree\.x is a object, which cannot be saved: mark its field NOT_SAVED"):
        pack({"x": object()}, "tree", Packed())


def test_an_annotation_that_does_not_say_the_class():
    @dataclasses.dataclass
    class Loose:
        """Its field may be any dataclass."""

        leaf: Any

    with pytest.raises(TypeError, match="is about 0 dataclasses; expected one"):
        round_trip(Loose(Leaf(1.0)))
