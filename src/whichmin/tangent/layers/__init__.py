"""Kinds of layers, one a file: how their calls are recognized and what their parts of J and of the kernel are."""
