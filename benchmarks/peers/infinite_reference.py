"""Reference arrays from neural-tangents for tests/infinite: run with a Python that has neural-tangents 0.6.5.

python benchmarks/peers/infinite_reference.py tests/infinite/reference.npz
"""

import json
import sys

import jax

jax.config.update("jax_enable_x64", True)

import neural_tangents as nt  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402

ACTIVATIONS = ("relu", "leaky_relu", "erf", "linear")


def network(case):
    weights, biases = case["weight_std"], case["bias_std"]
    widths = [*case["widths"], 1]
    layers = []
    for i, (w, n) in enumerate(zip(weights, widths, strict=True)):
        b = None if biases is None else biases[i]
        layers.append(stax.Dense(n, W_std=w, b_std=b, parameterization=case["parametrization"]))
        if i < len(weights) - 1:
            slope = case["negative_slope"]
            layers.append(
                {
                    "relu": stax.Relu,
                    "leaky_relu": lambda slope=slope: stax.LeakyRelu(slope),
                    "erf": stax.Erf,
                    "linear": stax.Identity,
                }[case["activation"]]()
            )
    return stax.serial(*layers)[2]


def cases(rng):
    for activation in ACTIVATIONS:
        for depth in range(1, 7):
            for bias in (False, True):
                for parametrization in ("ntk", "standard"):
                    yield {
                        "depth": depth,
                        "activation": activation,
                        "weight_std": rng.uniform(0.7, 1.8, depth).round(3).tolist(),
                        "bias_std": rng.uniform(0.05, 0.8, depth).round(3).tolist() if bias else None,
                        "parametrization": parametrization,
                        "widths": rng.integers(5, 300, depth - 1).tolist(),
                        "negative_slope": 0.2,
                        "shape": [int(rng.integers(3, 8)), int(rng.integers(2, 7)), int(rng.integers(1, 9))],
                    }


def ensemble(arrays):
    """Mean and covariance of gradient-descent-trained networks, at times in neural-tangents' own units."""
    rng = np.random.default_rng(1)
    x, y, x_test = rng.normal(size=(9, 4)), rng.normal(size=(9, 2)), rng.normal(size=(5, 4))
    case = {"weight_std": [1.4, 1.4, 1.0], "bias_std": [0.3] * 3, "widths": [1, 1], "negative_slope": 0.0}
    kernel = network({**case, "parametrization": "ntk", "activation": "relu"})
    predict = nt.predict.gradient_descent_mse_ensemble(kernel, x, y, diag_reg=0.0)
    arrays.update({"ensemble/x": x, "ensemble/y": y, "ensemble/x_test": x_test})
    for name, t in (("5", 5.0), ("inf", None)):
        got = predict(t=t, x_test=x_test, get="ntk", compute_cov=True)
        arrays[f"ensemble/{name}/mean"] = np.asarray(got.mean)
        arrays[f"ensemble/{name}/covariance"] = np.asarray(got.covariance)


def main(path):
    rng = np.random.default_rng(0)
    arrays, described = {}, []
    for i, case in enumerate(cases(rng)):
        n1, n2, d = case["shape"]
        x1, x2 = rng.normal(size=(n1, d)), rng.normal(size=(n2, d))
        kernel = network(case)
        arrays[f"{i}/x1"], arrays[f"{i}/x2"] = x1, x2
        for kind in ("ntk", "nngp"):
            arrays[f"{i}/{kind}"] = np.asarray(kernel(x1, x2, kind))
            arrays[f"{i}/{kind}/self"] = np.asarray(kernel(x1, None, kind))
        described.append(case)
    ensemble(arrays)
    flat = {name: (array.shape, array.astype(np.float64).ravel()) for name, array in arrays.items()}
    index, start = {}, 0
    for name, (shape, values) in flat.items():
        index[name] = [start, list(shape)]
        start += values.size
    np.savez_compressed(
        path,
        values=np.concatenate([values for _, values in flat.values()]),
        index=np.array(json.dumps(index)),
        cases=np.array(json.dumps(described)),
    )


if __name__ == "__main__":
    main(sys.argv[1])
