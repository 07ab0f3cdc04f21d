"""Scikit-learn's 8×8 handwritten digits, which come with it: 1797 examples, some 180 of each class."""

from __future__ import annotations

from functools import cache

import torch

from whichmin.data.pool import Examples, Pool


@cache
def digits_pool() -> Pool:
    """All digits: images (1797, 1, 8, 8) with pixels 0…16 and labels 0…9; no test part of their own. Read once."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    X = torch.as_tensor(pixels).reshape(-1, 1, 8, 8).to(torch.uint8)
    return Pool("digits", Examples(X, torch.as_tensor(labels).long()), flat=True, white=16.0)
