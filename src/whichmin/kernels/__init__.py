"""Tangent kernels as matrices to solve with."""
