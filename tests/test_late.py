import copy
import dataclasses
import pickle
from dataclasses import dataclass

import pytest

from whichmin.late import Later, is_late, late


@dataclass(frozen=True, kw_only=True)
class Found:
    name: str
    size: int = late()
    shape: tuple[int, ...] = late()


def made_of(calls: list[str], *, fails: bool = False) -> Found:
    def make():
        calls.append("made")
        if fails and len(calls) == 1:
            raise ValueError("not now")
        return {"size": 3, "shape": (1, 3)}

    values = Later(make)
    return Found(name="a", **dict.fromkeys(("size", "shape"), values))


def test_values_are_made_at_once_when_one_is_asked_for():
    calls: list[str] = []
    found = made_of(calls)
    assert is_late(found, "size")
    assert not is_late(found, "name")
    assert calls == []
    assert (found.size, found.shape, found.size) == (3, (1, 3), 3)
    assert calls == ["made"]
    assert not is_late(found, "size")


def test_values_that_are_known_are_as_ever():
    found = Found(name="a", size=1, shape=())
    assert (found.size, found.shape) == (1, ())
    assert not is_late(found, "size")
    assert found == Found(name="a", size=1, shape=())


def test_a_field_has_no_default():
    with pytest.raises(TypeError, match="shape"):
        Found(name="a", size=1)  # type: ignore[call-arg]


def test_making_that_failed_is_tried_again():
    found = made_of([], fails=True)
    with pytest.raises(ValueError, match="not now"):
        _ = found.size
    assert found.size == 3


@pytest.mark.parametrize("again", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f)), dataclasses.replace])
def test_copies_hold_the_values(again):
    calls: list[str] = []
    found = again(made_of(calls))
    assert calls == ["made"]
    assert (found.size, found.shape) == (3, (1, 3))
