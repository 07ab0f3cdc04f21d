"""The calls that are known to consist of several layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from whichmin.tangent.composites import attention, products, recurrent

#: From a function of torch to one of the same arguments and outputs, by calls of single layers; it returns
#: ``NotImplemented`` for arguments that it does not know.
COMPOSITES: dict[Callable[..., Any], Callable[..., Any]] = {
    **attention.CALLS,
    **products.CALLS,
    **recurrent.CALLS,
}
