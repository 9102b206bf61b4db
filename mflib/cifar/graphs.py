r"""On a GPU: the whole step of a run as one CUDA graph on the run's own stream."""

from __future__ import annotations

from typing import Any

import torch

from .training import STATE, Run

__all__ = ["Graphs", "use_graphs"]


class Graphs:
    """Replays the step of a run, captured once for each batch size.

    Parameters
    ----------
    run : Run
        On a GPU.
    """

    def __init__(self, run: Run) -> None:
        self.run, self._graphs, self._pool = run, {}, None

    def capture(self, size: int) -> Any:
        """Return the CUDA graph of a step; the state is as before."""
        run = self.run
        saved = {name: getattr(run, name).detach().clone() for name in STATE}
        torch.cuda.synchronize(run.device)
        with torch.cuda.stream(run.stream):
            for _ in range(3):
                run.position.zero_()
                run.eager(size)
        run.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=run.stream, capture_error_mode="thread_local"
        ):
            run.eager(size)
        self._pool = graph.pool()
        with torch.no_grad():
            for name, tensor in saved.items():
                getattr(run, name).copy_(tensor)
        torch.cuda.synchronize(run.device)
        return graph

    def __call__(self, size: int) -> None:
        if size not in self._graphs:
            self._graphs[size] = self.capture(size)
        self._graphs[size].replay()


def use_graphs(run: Run) -> None:
    """Let a run on a GPU replay its step as a graph; does nothing on a CPU."""
    if run.device.type != "cuda":
        return
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    run.stream = torch.cuda.Stream(run.device)
    run.act = Graphs(run)
    torch.cuda.synchronize(run.device)  # nothing may still be on its way
