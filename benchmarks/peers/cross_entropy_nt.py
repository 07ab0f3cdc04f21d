"""neural-tangents' prediction of gradient flow on cross-entropy: a peer of benchmarks/cross_entropy.py.

Run with a Python that has neural-tangents: cross_entropy_nt.py FOLDER STEPS. Reads FOLDER/problem.npz, writes the test
outputs to FOLDER/theirs.npy and tells seconds in a line of JSON. In double precision.
"""

import json
import sys
import time

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp  # noqa: E402
import neural_tangents as nt  # noqa: E402
import numpy as np  # noqa: E402
from many_points_nt import network, problem  # noqa: E402


def cross_entropy(outputs, targets):
    """The mean over rows."""
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(outputs) * targets, axis=-1))


def main(folder, steps):
    parameters, X, y, X_test, lr = problem(folder)
    implementation = nt.NtkImplementation.STRUCTURED_DERIVATIVES
    kernel = jax.jit(nt.empirical_ntk_fn(network, trace_axes=(), vmap_axes=0, implementation=implementation))
    f0, f0_test = network(parameters, X), network(parameters, X_test)
    seconds = []
    for _ in range(2):  # the first one compiles
        start = time.perf_counter()
        K, cross = kernel(X, None, parameters), kernel(X_test, X, parameters)
        predict = nt.predict.gradient_descent(cross_entropy, K, y, learning_rate=lr, trace_axes=())
        outputs = predict(float(steps), f0, f0_test, cross)[1].block_until_ready()
        seconds.append(time.perf_counter() - start)
    np.save(f"{folder}/theirs.npy", np.asarray(outputs))
    print(json.dumps({"seconds": seconds[-1], "version": f"neural-tangents {nt.__version__}, jax {jax.__version__}"}))


if __name__ == "__main__":
    main(*sys.argv[1:])
