"""Minimizers in closed form and by convex programs: smallest norm, AdaGrad's on a single point, largest margin."""

from whichmin.minimizers.margin import MaxMargin, max_margin
from whichmin.minimizers.one_point import adagrad_one_point
from whichmin.minimizers.smallest_norm import minimum_complexity, minimum_norm_interpolator

__all__ = ["MaxMargin", "adagrad_one_point", "max_margin", "minimum_complexity", "minimum_norm_interpolator"]
