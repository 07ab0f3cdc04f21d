"""With how many threads this process computes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

#: Products and factors of matrices of up to this many rows are faster with one thread: others of numpy's and scipy's
#: linear algebra spin while they wait, on the cores that torch computes on.
SMALL = 2048


@contextlib.contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """Compute with so many threads, in torch and in the linear algebra that numpy and scipy call; None for any."""
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _libraries().limit(limits=threads):
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def few_blas_threads(rows: int, *, scipy: bool) -> Iterator[None]:
    """One thread in the linear algebra that numpy and scipy call, where its matrices are small; torch's stay.

    Args:
        rows: of the largest of them, such as N·C of a tangent kernel.
        scipy: whether scipy is certain to be called, which is slow to import; else its threads stay until it is.
    """
    if rows > SMALL:
        yield
        return
    libraries = _libraries() if scipy or "scipy.linalg" in sys.modules else _loaded_libraries()
    with libraries.limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> Any:
    """The libraries of this process that have threads of their own."""
    import scipy.linalg  # noqa: F401  reads those that are read later otherwise

    return _loaded_libraries()


def _loaded_libraries() -> Any:
    """Those of them that are loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
