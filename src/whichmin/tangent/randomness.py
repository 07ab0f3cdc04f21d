"""Whether something drew random numbers, told by the states of the generators."""

from __future__ import annotations

import ctypes
import random

import numpy as np
import torch

#: The state of a Mersenne twister: 624 words and a position among them.
_MT19937_BYTES = 4 * 625


def random_states(device: torch.device) -> tuple[object, ...]:
    """The states of all random generators that a model may draw from."""
    states: list[object] = [torch.get_rng_state().numpy().tobytes(), random.getstate()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device).numpy().tobytes())
    return (*states, _numpy_state())


def _numpy_state() -> bytes:
    """That of the generator of ``np.random``; read where it lies, as numpy would copy it."""
    generator = np.random.get_bit_generator()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(generator, np.random.MT19937):
        return ctypes.string_at(generator.ctypes.state_address, _MT19937_BYTES)
    return repr(generator.state).encode()
