"""The tangent kernel of a deep ReLU network with neural-tangents' batched kernel: the peer of benchmarks/infinite.py.

Run with a Python that has neural-tangents. Reads a JSON request from the command line, writes a JSON answer to stdout.
"""

import json
import resource
import sys
import time

import jax

jax.config.update("jax_enable_x64", True)

import neural_tangents as nt  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402


def main(request):
    x = np.load(request["inputs"])
    layers = []
    for _ in range(request["depth"] - 1):
        layers += [stax.Dense(1, W_std=2.0**0.5, b_std=request["bias_std"]), stax.Relu()]
    kernel = stax.serial(*layers, stax.Dense(1, W_std=1.0, b_std=request["bias_std"]))[2]
    batched = nt.batch(kernel, batch_size=request["batch_size"])
    seconds, cpu = [], []
    for _ in range(request["repeats"]):
        start, start_cpu = time.perf_counter(), time.process_time()
        result = batched(x, None, "ntk")
        result.block_until_ready()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    corner = np.asarray(result[: request["corner"], -request["corner"] :])
    answer = {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "corner": corner.tolist(),
        "version": f"neural-tangents {nt.__version__}, jax {jax.__version__}",
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
