"""Where the kernel of a training set is held, planned before anything is allocated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from whichmin.kernels.large import bytes_per_entry
from whichmin.tangent.memory import Memory, require
from whichmin.tangent.memory import size as readable

logger = logging.getLogger(__name__)

#: What to do where a kernel does not fit.
NO_ROOM = (
    'Pass tiles=FOLDER and relinearize="never" to keep it on disk, relinearize="never" alone to multiply by J(Jᵀv) '
    "without forming it, predict from fewer training points, or in a smaller floating-point type."
)
#: Why a kernel that fits is not formed.
CHEAPER = (
    "the kernel of {}·{} training outputs, {}, is not formed: about {:.0f} products J(Jᵀv), a backward and a forward "
    "pass each, take less time. terms, eigenvalues and rates form it when they are asked for."
)
#: What to write where not even the features fit.
FEWER = "Allow more memory, predict from fewer training points, or in a smaller floating-point type."


@dataclass(frozen=True)
class Holding:
    """Where a kernel is held: in memory, unless something else is said.

    Attributes:
        tiles: the folder on disk that it is kept in, in tiles.
        multiplied: why it is multiplied and not held.
        is_later: whether it is not held only because products take less time than making it, so that it may be later.
    """

    tiles: Path | None = None
    multiplied: str = ""
    is_later: bool = False


def plan_holding(
    memory: Memory,
    n: int,
    outputs: torch.Tensor,
    rest: int,
    products: float,
    are_products_cheaper: Callable[[], bool],
) -> Holding:
    """Where the kernel of a training set is to be held.

    Args:
        memory: what the caller allows.
        n: N, the number of training points.
        outputs: of a few of them, (rows, C).
        rest: what all else takes, in bytes.
        products: how many products with the kernel are asked for.
        are_products_cheaper: whether they take less time than a kernel that fits.

    Raises:
        MemoryPlanError: it fits nowhere.
    """
    C, item, device = outputs.shape[1], outputs.element_size(), outputs.device
    kernel = (n * C) ** 2 * bytes_per_entry(n * C, item)
    what, features = f"the kernel of {n}·{C} training outputs and what it is solved with", "holding the features of"
    if memory.tiles is not None:
        if rest + kernel <= memory.free(device):
            return Holding()
        logger.info("%s takes %s: in tiles in %s", what, readable(kernel), memory.tiles)
        return Holding(tiles=memory.tiles)
    if memory.products and rest + kernel > (free := memory.free(device)):
        require(rest, device, f"{features} {n} training points", FEWER, memory.limit)
        found = Holding(
            multiplied=f"{what} needs {readable(rest + kernel)}, and there are {readable(free)}: it is not formed, "
            f"each product J(Jᵀv) is a backward and a forward pass. It takes {readable(rest)}."
        )
    elif are_products_cheaper():
        require(rest, device, f"{features} {n} training points", FEWER, memory.limit)
        found = Holding(multiplied=CHEAPER.format(n, C, readable(kernel), products), is_later=True)
    else:
        require(rest + kernel, device, what, NO_ROOM, memory.limit)
        return Holding()
    logger.info("%s", found.multiplied)
    return found
