"""Finite-width tangent kernels with neural-tangents: a peer of benchmarks/kernels.py.

Run with a Python that has neural-tangents: kernels_nt.py METHOD PROBLEM.npz KERNEL.npy, METHOD one of
structured-derivatives, jacobian-contraction, ntk-vector-products. The function is compiled as a whole (jax.jit).
"""

import sys

import jax
import neural_tangents as nt
from _protocol import problem, serve


def network(parameters, x):
    """Dense and 3×3 convolutional layers with rectifiers; the mean over the image before the first dense layer."""
    *hidden, last = parameters
    for weight, bias in hidden:
        x = jax.nn.relu(layer(x, weight, bias))
    return layer(x, *last)


def layer(x, weight, bias):
    if weight.ndim == 4:
        z = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))
        return z + bias[None, :, None, None]
    if x.ndim == 4:
        x = x.mean((2, 3))
    return x @ weight + bias


def main(method, path, out):
    x, parameters = jax.tree_util.tree_map(jax.numpy.asarray, problem(path))
    # (in, out), as neural-tangents' own dense layers store them: it knows no structure behind a transposed parameter.
    parameters = [(w.T if w.ndim == 2 else w, b) for w, b in parameters]
    implementation = nt.NtkImplementation[method.replace("-", "_").upper()]
    kernel = jax.jit(nt.empirical_ntk_fn(network, trace_axes=(), vmap_axes=0, implementation=implementation))
    serve(
        lambda: kernel(x, None, parameters).block_until_ready(),
        out,
        f"neural-tangents {nt.__version__}, jax {jax.__version__}",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
