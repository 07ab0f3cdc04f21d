"""Finite-width tangent kernels with torch.func and with nngeometry: peers of benchmarks/kernels.py.

Run with a Python that has torch, and nngeometry for it: kernels_torch.py METHOD PROBLEM.npz KERNEL.npy, METHOD one of
torch.func (vmap of jacrev, contracted parameter by parameter) and nngeometry (its Gram matrix).
"""

import sys

import torch
from torch import nn


class Mean(nn.Module):
    """The mean over an image: (n, channels, height, width) → (n, channels)."""

    def forward(self, x):
        return x.mean((2, 3))


def network(parameters):
    """Dense and 3×3 convolutional layers with rectifiers; the mean over the image before the first dense layer."""
    layers = []
    for i, (weight, bias) in enumerate(parameters):
        n_out, n_in = weight.shape[:2]
        convolution = weight.ndim == 4
        if not convolution and i and parameters[i - 1][0].ndim == 4:
            layers.append(Mean())
        made = nn.Conv2d(n_in, n_out, 3, padding=1) if convolution else nn.Linear(n_in, n_out)
        with torch.no_grad():
            made.weight.copy_(torch.from_numpy(weight))
            made.bias.copy_(torch.from_numpy(bias))
        layers += [made, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def by_torch_func(model, x):
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def single(parameters, row):
        return torch.func.functional_call(model, parameters, (row.unsqueeze(0),)).squeeze(0)

    jacobians = torch.func.vmap(torch.func.jacrev(single), (None, 0))(parameters, x)
    flat = [j.flatten(2) for j in jacobians.values()]
    return torch.stack([torch.einsum("naf,mbf->nmab", j, j) for j in flat]).sum(0)


def by_nngeometry(model, x):
    from nngeometry import GramMatrix
    from torch.utils.data import DataLoader, TensorDataset

    data = DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=len(x))
    return GramMatrix(model, data).to_torch().permute(1, 3, 0, 2)


METHODS = {"torch.func": by_torch_func, "nngeometry": by_nngeometry}


def main(method, path, out):
    from _protocol import problem, serve

    x, parameters = problem(path)
    model, x = network(parameters), torch.from_numpy(x)
    version = f"torch {torch.__version__}"
    if method == "nngeometry":
        from importlib.metadata import version as installed

        version = f"nngeometry {installed('nngeometry')}, {version}"
    serve(lambda: METHODS[method](model, x).detach().numpy(), out, version)


if __name__ == "__main__":
    main(*sys.argv[1:])
