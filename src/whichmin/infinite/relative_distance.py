"""How far a finite network is from its infinite-width limit."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from whichmin.devices import default_device_aside
from whichmin.infinite.description import FullyConnected
from whichmin.infinite.limit import Limit, inputs
from whichmin.infinite.reading import describe
from whichmin.kernels.kernel import tangent_kernel


@default_device_aside()
def relative_distance(model: nn.Module, X: Tensor, description: FullyConnected | Limit | None = None) -> float:
    """How far a finite network's tangent kernel is from its limit: ‖K − Θ ⊗ I_C‖ / ‖Θ ⊗ I_C‖ in the Frobenius norm.

    It falls as 1/√width for networks at initialization (Jacot et al. 2018; Arora et al. 2019); where it does not, the
    network is outside the kernel regime, or was not drawn from the law in the description. Costs both kernels: the
    finite one N²C² of memory.

    Args:
        model: a network as for :func:`describe`, at the parameters of interest.
        X: (n, …), of the network's own type.
        description: the limit; read off the model by default.

    Raises:
        ModelError: see :func:`describe`.
        DataError: inputs that are not finite or do not fit the network.
    """
    x = inputs(X, "X")
    limit = (describe(model) if description is None else description).ntk(x)
    finite = tangent_kernel(model, X).to(limit)
    outputs = finite.shape[-1]
    finite -= torch.einsum("ij,ab->ijab", limit, torch.eye(outputs).to(limit))
    size = torch.linalg.vector_norm(limit) * math.sqrt(outputs)
    return float(torch.linalg.vector_norm(finite) / size)
