"""How benchmarks/kernels.py talks to a process that computes kernels; needs numpy alone.

The process loads a problem, computes its kernel once (compilation and warm-up), writes it to a file and says that it is
ready. Then each line on its standard input is two computations, the second timed, answered with a line of JSON. At the
end of the input it tells its peak memory.
"""

import json
import os
import sys
import time

import numpy as np


def problem(path):
    """(x, [(weight, bias), …]) of a saved problem, float32."""
    with np.load(path) as saved:
        layers = (len(saved.files) - 1) // 2
        return saved["x"], [(saved[f"w{i}"], saved[f"b{i}"]) for i in range(layers)]


def memory(field):
    """A line of /proc/self/status in bytes: VmHWM is the peak of this very process, VmRSS what it holds now."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))
    except (OSError, StopIteration):
        return None


def serve(compute, out, version):
    """Answer until the input ends.

    Args:
        compute: no arguments; returns the kernel, (N, N) up to axes of length one, finished.
        out: where the first kernel is written, an .npy file.
        version: what computes it.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # what a library prints must not get between the answers

    def say(**answer):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    loaded = memory("VmRSS")
    kernel = np.asarray(compute())
    np.save(out, kernel.reshape(kernel.shape[0], kernel.shape[1]))
    compute()
    say(ready=True, version=version)
    for _ in sys.stdin:
        compute()  # wakes the threads and fills the caches after the other processes' turns
        start = time.perf_counter()
        compute()
        say(seconds=time.perf_counter() - start)
    say(peak_bytes=memory("VmHWM"), loaded_bytes=loaded)
