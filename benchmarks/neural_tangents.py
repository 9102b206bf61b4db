"""The Gram matrix by neural-tangents, in an environment of its own that holds nothing else.

The network comes as an ``.npz`` file of x (n, d) and theta (L, N, 2 d + 1). Each line of the
input asks for one thing, each line of the output answers in JSON: ``answer`` for the matrix,
``time K`` for processor seconds of K calls, ``memory`` for the MiB that a first call adds to the
peak, ``versions``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np


def kernel(x, theta):
    """Return a function without arguments that computes the matrix."""
    L, N, d = *theta.shape[:2], x.shape[1]
    x, theta = jnp.asarray(x), jnp.asarray(theta)

    def output(theta, x):
        def layer(X, p):
            u, w, b = p[:, :d], p[:, d : 2 * d], p[:, -1]
            return X + jnp.tanh(X @ w.T + b) @ u / (L * N), None

        return jax.lax.scan(layer, x, theta)[0][:, :1]

    found = jax.jit(nt.empirical_ntk_fn(output, trace_axes=(-1,), vmap_axes=0, implementation=2))
    return lambda: jax.block_until_ready(found(x, None, theta)) * (L * N)


def resident() -> float:
    """Return the MiB in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def answer(job, words):
    """Return what one line asks for."""
    if words[0] == "time":
        begin = time.process_time()
        for _ in range(int(words[1])):
            job()
        return (time.process_time() - begin) / int(words[1])
    if words[0] == "memory":
        before = resident()
        job()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    if words[0] == "versions":
        return {name: version(name) for name in ("neural-tangents", "jax", "numpy")}
    return np.asarray(job()).tolist()


def main() -> None:
    with np.load(sys.argv[1], allow_pickle=False) as data:
        job = kernel(data["x"], data["theta"])
    for line in sys.stdin:
        print(json.dumps(answer(job, line.split())), flush=True)


if __name__ == "__main__":
    main()
