"""neural-tangents' batched kernel and its prediction of gradient flow: a peer of benchmarks/many_points.py.

Run with a Python that has neural-tangents: many_points_nt.py FOLDER STEPS BATCH. Reads FOLDER/problem.npz, writes the
test outputs to FOLDER/theirs.npy and tells seconds and peak memory in a line of JSON.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from _protocol import memory

#: What the layers multiply by.
FACTORS: list[float] = []


def network(parameters, x):
    """Dense layers without biases, with rectifiers between them and a factor each."""
    weights = parameters["weights"]
    for i, w in enumerate(weights):
        x = FACTORS[i] * (x @ w)
        x = x if i == len(weights) - 1 else jax.nn.relu(x)
    return x


def problem(folder):
    """Parameters, X, y, X_test and the learning rate of FOLDER/problem.npz; what its layers multiply by is kept."""
    with np.load(f"{folder}/problem.npz") as saved:
        layers = sum(name.startswith("w") for name in saved.files)
        # A dictionary: lists are trees of inputs to neural-tangents' batches.
        parameters = {"weights": [jnp.asarray(saved[f"w{i}"].T) for i in range(layers)]}
        FACTORS.extend(saved["factors"].tolist())
        return parameters, *(jnp.asarray(saved[name]) for name in ("X", "y", "X_test")), float(saved["lr"])


def main(folder, steps, batch):
    parameters, X, y, X_test, lr = problem(folder)
    implementation = nt.NtkImplementation.STRUCTURED_DERIVATIVES
    kernel = nt.empirical_ntk_fn(network, trace_axes=(), vmap_axes=0, implementation=implementation)
    batched = nt.batch(jax.jit(kernel), batch_size=int(batch), device_count=0)
    batched(X[: int(batch)], None, parameters).block_until_ready()  # compiled, as far as that is shared
    start = time.perf_counter()
    K = batched(X, None, parameters).block_until_ready()
    cross = batched(X_test, X, parameters).block_until_ready()
    middle = time.perf_counter()
    # Its loss is half of torch's mean square error.
    predict = nt.predict.gradient_descent_mse(K, y, learning_rate=2.0 * lr, trace_axes=())
    outputs = predict(float(steps), network(parameters, X), network(parameters, X_test), cross)[1].block_until_ready()
    end = time.perf_counter()
    np.save(f"{folder}/theirs.npy", np.asarray(outputs))
    version = f"neural-tangents {nt.__version__}, jax {jax.__version__}"
    told = {"seconds": end - start, "kernel": middle - start, "version": version, "GiB": memory("VmHWM") / 2**30}
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
