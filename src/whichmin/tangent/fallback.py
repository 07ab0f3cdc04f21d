"""From the fastest way to make J to the slowest, until one agrees with plain autograd."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from whichmin.errors import ModelError
from whichmin.tangent.examination import Examination
from whichmin.tangent.route import Route

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def by_first_right_route(
    examination: Examination, attempt: Callable[[Route], Result | None], route: Route | None = None
) -> Result:
    """What comes of the fastest way to make J that is right.

    Args:
        examination: of the model.
        attempt: what is computed by a way; None where it turned out wrong.
        route: the fastest way; that of the examination by default.

    Raises:
        ModelError: no way is right.
    """
    route = examination.route if route is None else route
    result = attempt(route)
    if result is None and route.by_rows and not examination.is_whole:  # there rows were looked for in every call
        logger.info("the kernel differs from plain autograd: rows are looked for in every call")
        route = replace(route, by_rows=frozenset())
        result = attempt(route)
    everything = frozenset(examination.parameters)
    if result is None and route.form != everything:
        wrong = examination.misjudged(route) or everything
        if not wrong <= route.form:
            logger.warning(
                "what layers say of %s differs from plain autograd: per-example gradients", ", ".join(sorted(wrong))
            )
            route = replace(route, form=route.form | wrong)
            result = attempt(route)
    if result is None:
        logger.warning("the kernel still differs from plain autograd: gradients of all parameters, row by row")
        route = replace(route, form=everything, one_by_one=True)
        result = attempt(route)
    if result is None:
        wrong = sorted(examination.misjudged(route))
        raise ModelError(
            f"no way of computing the tangent kernel of {type(examination.model).__name__} agrees with plain autograd "
            f"on a few rows (parameters {', '.join(wrong) or 'unknown'}): something in it depends on the other rows, "
            "on their number, or on state that changes from call to call. Make forward a function of its input alone."
        )
    return result
