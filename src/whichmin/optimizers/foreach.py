"""torch's operations on lists of tensors, one kernel for all of them on a GPU; its own optimizers are built on them."""

from __future__ import annotations

import torch

add = torch._foreach_add  # pyright: ignore[reportPrivateImportUsage]
add_ = torch._foreach_add_  # pyright: ignore[reportPrivateImportUsage]
addcmul_ = torch._foreach_addcmul_  # pyright: ignore[reportPrivateImportUsage]
mul_ = torch._foreach_mul_  # pyright: ignore[reportPrivateImportUsage]
