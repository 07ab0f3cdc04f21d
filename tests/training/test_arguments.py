"""What a loop calls a model with, made again from rows: masks, refusals, and what later calls show."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from whichmin.errors import InputError
from whichmin.training.arguments import Calls, Given, Padded, reproduced

RIGHT = torch.tensor([[5, 3, 9, 9], [5, 9, 3, 4], [5, 6, 7, 9]])
LEFT = RIGHT.flip(1)
ONES = torch.ones_like(RIGHT)
MASK = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize(
    ("x", "mask", "pads", "left", "expected"),
    [
        (RIGHT, MASK, [None, None], False, Padded("ids", "right", 9)),
        (LEFT, MASK.flip(1), [None, 0], True, Padded("ids", "left", 9)),
        (LEFT, MASK.flip(1), [9, 9], False, Padded("ids", "left", 9)),
        (RIGHT[1:2], ONES[1:2], [None, 9], False, Padded("ids", "right", 9)),
        (RIGHT[1:2], ONES[1:2], [None, None], False, Padded("ids", "right", None)),
        (RIGHT, ONES, [9], False, Padded("ids", "none")),
        (RIGHT, None, [9], False, Padded("ids")),
        (RIGHT.float(), None, [9], False, Padded("ids")),
    ],
)
def test_the_mask_is_read_off_the_batch(x, mask, pads, left, expected):
    batch = {"ids": x, "labels": x[:, 0], "return_dict": True, "num_items_in_batch": torch.tensor(3)}
    if mask is not None:
        batch["attention_mask"] = mask
    found = reproduced(batch, "ids", pads, left)
    assert found == expected
    found.check(batch)
    assert not found.differ(batch)
    made = found(x)
    assert set(made) == batch.keys() & {"ids", "attention_mask"}
    if mask is not None:
        assert torch.equal(made["attention_mask"], mask)


def test_rows_of_other_lengths_get_their_own_mask():
    mask = Padded("ids", "right", 9).mask(torch.tensor([[1, 9, 9, 9, 9, 9], [9, 9, 1, 9, 2, 9]]))
    assert mask.tolist() == [[1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize("mask", [MASK.flip(0), torch.tensor([[1, 0, 1, 0]] * 3), MASK[:, None, :], 1 - MASK])
def test_other_masks_are_refused(mask):
    with pytest.raises(InputError, match=r"attention_mask is not that of rows padded.*inputs="):
        reproduced({"ids": RIGHT, "attention_mask": mask}, "ids", [9])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"bbox": RIGHT}, "with 'bbox' beside 'ids', which rows of X do not tell. Pass inputs="),
        ({"token_type_ids": RIGHT}, "with 'token_type_ids' beside 'ids'"),
        ({"position_ids": RIGHT}, "with 'position_ids' beside 'ids'"),
        ({"ids": None, "pixels": RIGHT}, "calls the model with 'pixels'; expected 'ids', rows of X"),
        ({"ids": None}, "calls the model with no tensor; expected 'ids'"),
    ],
)
def test_arguments_that_rows_do_not_tell(more, message):
    batch = {"ids": RIGHT} | more
    with pytest.raises(InputError, match=message):
        reproduced(batch, "ids", []).check(batch)


def test_defaults_need_not_be_told():
    batch = {"ids": RIGHT, "token_type_ids": 0 * RIGHT, "position_ids": torch.arange(4)[None]}
    found = reproduced(batch, "ids", [])
    found.check(batch)
    assert found == Padded("ids")


def test_a_function_gives_all_arguments():
    given = Given.of(lambda x: {"ids": x[:, 0], "mask": x[:, 1]}, torch.zeros(3, 2, 4))
    given.check({"ids": RIGHT, "mask": ONES, "labels": RIGHT})
    assert given.differ({"ids": RIGHT, "other": ONES})
    assert not given.differ({"ids": RIGHT})
    assert set(given(torch.zeros(1, 2, 4))) == {"ids", "mask"}
    with pytest.raises(InputError, match="with 'other', which inputs= does not return; it returns 'ids', 'mask'"):
        given.check({"ids": RIGHT, "other": ONES})
    with pytest.raises(InputError, match="inputs returned a Tensor; expected a mapping"):
        Given.of(lambda x: x, RIGHT)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, ids, attention_mask=None):
        self.seen += 1
        return ids


@pytest.mark.parametrize(
    ("later", "differs"),
    [
        ([{"ids": RIGHT, "attention_mask": MASK}], False),
        ([{"ids": RIGHT, "attention_mask": ONES}, {"ids": RIGHT, "attention_mask": MASK}], True),
        ([{"ids": RIGHT}], True),
        ([{"ids": RIGHT, "attention_mask": MASK[:, None]}], True),
    ],
)
def test_the_first_call_starts_and_the_later_ones_are_compared(later, differs):
    model, started = Model(), []

    def start(batch):
        assert not model._forward_pre_hooks, "the model may be copied here"
        started.append(batch)
        return reproduced(batch, "ids", [])

    calls = Calls(model, start)
    model.eval()(RIGHT)
    assert not started, "an evaluation is no step of the loop"
    model.train()(RIGHT, attention_mask=MASK)
    assert [sorted(batch) for batch in started] == [["attention_mask", "ids"]]
    for batch in later:
        model(**batch)
        copy.deepcopy(model)(RIGHT)  # a copy's calls are not the loop's
    assert calls.stop() is differs
    assert calls.stop() is False, "it is told once"
    model(RIGHT)
    assert not model._forward_pre_hooks
    assert len(started) == 1
