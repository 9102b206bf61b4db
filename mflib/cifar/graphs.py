r"""On a GPU: the whole step of a run as one CUDA graph on the run's own stream.

A captured step counts only after it has been compared with the step as it is written;
where capture fails or the two differ, the run takes the written one and says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .training import STATE, Run

__all__ = ["Graphs", "use_graphs"]


class Graphs:
    """Replays the step of a run, captured and checked once for each batch size.

    Parameters
    ----------
    run : Run
        On a GPU.

    Attributes
    ----------
    reasons : dict
        For each batch size that is not captured, why.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.reasons = run, {}
        self._act: dict[int, Callable[[], Any]] = {}
        self._pool: Any = None

    def __call__(self, size: int) -> None:
        if size not in self._act:
            self._act[size] = self._prepare(size)
        self._act[size]()

    def _state(self) -> dict[str, Tensor]:
        return {name: getattr(self.run, name).detach().clone() for name in STATE}

    @torch.no_grad()
    def _put(self, state: dict[str, Tensor]) -> None:
        for name, tensor in state.items():
            getattr(self.run, name).copy_(tensor)

    def capture(self, size: int) -> Any:
        """Return the CUDA graph of a step; the run's state is anything."""
        run = self.run
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
        return graph

    def difference(self, graph: Any, size: int, start: dict[str, Tensor]) -> float:
        """Return by how much replayed steps differ from written ones at most; 0: not at all.

        Two steps from the state `start`, or one where the epoch has no image for another.
        """
        run, ends = self.run, []
        count = 2 if run.done + 2 * size <= run.images else 1
        for act in (partial(run.eager, size), graph.replay):
            self._put(start)
            for _ in range(count):
                act()
            run.wait()
            ends.append(self._state())
        gaps = [
            (a.double() - b.double()).abs().max()
            for a, b in zip(*(end.values() for end in ends), strict=True)
            if a.numel()
        ]
        worst = float(torch.stack(gaps).max())
        return worst if worst == worst else float("inf")  # NaN is a difference

    def _prepare(self, size: int) -> Callable[[], Any]:
        run, start = self.run, self._state()
        torch.cuda.synchronize(run.device)
        try:
            graph = self.capture(size)
            worst = self.difference(graph, size, start)
            reason = f"captured and written steps differ by {worst:.2g}" if worst else None
        except RuntimeError as error:
            reason = (str(error).splitlines() or ["capture failed"])[0]
        self._put(start)
        torch.cuda.synchronize(run.device)
        if reason is None:
            return graph.replay
        self.reasons[size] = reason
        print(
            f"{run.cfg.name}: batches of {size} run step by step, which is slower ({reason})",
            file=sys.stderr,
        )
        return partial(run.eager, size)


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
