r"""The trainer: one run of the paper's recipe, one graph a step.

Every random number of a run follows from its seed and epoch alone, so its state is a few
tensors, and a run that was killed goes on to the same bits. On a GPU the whole step
(gather, forward, backward, update, sort) is one CUDA graph on the run's own stream; on a
CPU the same function is called as it is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import CifarError
from .bracket import depth_gradient
from .meanfield import initial_tau, method, reorder, steps
from .nets import Network, network
from .recipe import Config
from .records import device_name
from .store import Store, epoch_plan

__all__ = ["Run"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_TENSORS = (
    "theta", "momentum", "stats", "tau", "tau_momentum", "blocks", "position", "totals",
    "moved",
)


class Run:
    r"""One training run on a device.

    Parameters
    ----------
    cfg : Config
        What to run.
    store : Store
        The data, on the device of the run.
    net : Network, optional
        Default: the one that `cfg` names.

    Attributes
    ----------
    theta, momentum, stats : Tensor
        Flat float32 vectors: parameters, their momentum, running statistics.
    tau, tau_momentum, blocks : Tensor
        Depth of the block in each place, its momentum, and the block's number.
    history : list of dict
        One entry a finished epoch.
    devices : list of str
        The devices that have advanced it.
    """

    def __init__(self, cfg: Config, store: Store, net: Network | None = None) -> None:
        self.cfg, self.store, self.how = cfg, store, method(cfg.method)
        self.net = network(cfg.net, store.classes) if net is None else net
        self.movable = self.net.arch.movable
        self.device, self.dtype = store.device, _DTYPES[cfg.precision]
        self.devices = [device_name(self.device)]
        generator = torch.Generator().manual_seed(cfg.seed)
        theta, stats = self.net.initial(generator)
        extra = torch.Generator().manual_seed(7_919 + cfg.seed)
        tau = initial_tau(self.how, self.movable, extra)
        put = self.device
        self.theta, self.stats, self.tau = theta.to(put), stats.to(put), tau.to(put)
        self.theta.requires_grad_()
        self.tau.requires_grad_(self.how.learns)
        self.momentum = torch.zeros_like(self.theta, requires_grad=False)
        self.tau_momentum = torch.zeros_like(self.tau, requires_grad=False)
        self.blocks = torch.cat([torch.arange(m) for m in self.movable]).to(put)
        self.position = torch.zeros((), dtype=torch.int64, device=put)
        self.totals = torch.zeros(2, dtype=torch.float64, device=put)
        self.moved = torch.zeros(len(self.movable), dtype=torch.int64, device=put)
        self.rate = torch.tensor(cfg.rate, device=put)
        self.images, n = store.train_images, store.train_images
        self.order = torch.zeros(n, dtype=torch.int64, device=put)
        self.crop = torch.zeros(n, 2, dtype=torch.uint8, device=put)
        self.flip = torch.zeros(n, dtype=torch.bool, device=put)
        self.scores = None
        if self.how.sort == "random":
            self.scores = torch.zeros(-(-n // cfg.batch), len(self.tau), device=put)
        self.epoch, self.done, self.history = 0, 0, []
        self.seconds, self.status, self._began = 0.0, "running", False
        self._line = torch.arange(cfg.batch, device=put)
        self._graphs: dict[int, Any] = {}
        self._pool = None
        self.stream = torch.cuda.Stream(put) if put.type == "cuda" else None
        self.shuffled: dict[str, Any] | None = None
        if self.stream is not None:  # nothing above may still be on its way
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
            torch.cuda.synchronize(put)

    # one step -----------------------------------------------------------------------
    def _rows(self) -> list[list[Tensor]]:
        """For each stage the tensors whose rows travel with a block."""
        out, start = [], 0
        for m, where, running in self.net.stacks:
            pair = (self.theta.detach()[where], self.momentum[where], self.stats[running])
            rows = [vector.view(m, -1) for vector in pair if m]
            out.append([*rows, self.blocks[start : start + m]])
            start += m
        return out

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return loss, logits, and what moves theta and tau."""
        how, states = self.how, []
        heights = steps(how, self.tau, self.movable)
        if how.steps != "equal":
            logits = self.net(self.theta, self.stats, x, heights)
            loss = F.cross_entropy(logits, y)
            learned = [self.theta, self.tau] if how.learns else [self.theta]
            grads = torch.autograd.grad(loss, learned)
            return loss, logits, grads[0], grads[1] if how.learns else None
        logits = self.net(self.theta, self.stats, x, heights, states=states)
        loss = F.cross_entropy(logits, y)
        flat = [state for stage in states for state in stage]
        theta, *costates = torch.autograd.grad(loss, [self.theta, *flat])
        parts = iter(costates)
        stages = [[next(parts) for _ in stage] for stage in states]
        return loss, logits, theta, depth_gradient(self.net, self.theta, states, stages)

    def _step(self, size: int) -> None:
        where = self.position + self._line[:size]
        index = self.order.index_select(0, where)
        x = self.store.batch(
            index, self.crop.index_select(0, where), self.flip.index_select(0, where),
            self.dtype,
        )
        y = self.store.labels.index_select(0, index)
        loss, logits, theta_grad, tau_grad = self._gradients(x, y)
        with torch.no_grad():
            cfg = self.cfg
            self.momentum.mul_(cfg.momentum).add_(theta_grad)
            self.momentum.add_(self.theta, alpha=cfg.weight_decay)
            self.theta.addcmul_(self.momentum, self.rate, value=-1.0)
            if self.how.learns:
                self.tau_momentum.mul_(cfg.momentum).add_(tau_grad)
                if self.how.decay:
                    decay = self.how.decay * cfg.weight_decay
                    self.tau_momentum.add_(self.tau, alpha=decay)
                self.tau.addcmul_(self.tau_momentum, self.rate, value=-self.how.rate)
                scores = None
                if self.scores is not None:
                    row = torch.div(self.position, cfg.batch, rounding_mode="floor")
                    scores = self.scores.index_select(0, row.view(1))[0]
                moved = reorder(
                    self.how, self.tau, [self.tau_momentum], self._rows(), self.movable,
                    scores,
                )
                if moved is not None:
                    self.moved.add_(moved)
            wrong = (logits.argmax(1) != y).sum()
            self.totals.add_(torch.stack([loss.detach().double() * size, wrong.double()]))
            self.position.add_(size)

    def _capture(self, size: int) -> Any:
        """Return the CUDA graph of a step; the state is as before."""
        saved = {name: getattr(self, name).detach().clone() for name in _TENSORS}
        torch.cuda.synchronize(self.device)
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                self.position.zero_()
                self._step(size)
        self.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"
        ):
            self._step(size)
        self._pool = graph.pool()
        with torch.no_grad():
            for name, tensor in saved.items():
                getattr(self, name).copy_(tensor)
        torch.cuda.synchronize(self.device)
        return graph

    def _on_stream(self) -> Any:
        return torch.cuda.stream(self.stream)  # does nothing for None

    def step(self) -> int:
        """Advance by one batch and return its number of images."""
        if not self._began:
            self._begin_epoch()
        size = min(self.cfg.batch, self.images - self.done)
        if self.stream is None:
            self._step(size)
        else:
            if size not in self._graphs:
                self._graphs[size] = self._capture(size)
            with self._on_stream():
                self._graphs[size].replay()
        self.done += size
        return size

    def _begin_epoch(self) -> None:
        cfg, store = self.cfg, self.store
        plan = epoch_plan(self.images, cfg.seed, self.epoch, store.pad, store.flip)
        passed = sum(self.epoch >= milestone > 0 for milestone in cfg.milestones)
        pairs = [(self.order, plan.order), (self.crop, plan.crop), (self.flip, plan.flip)]
        if self.scores is not None:
            generator = torch.Generator().manual_seed(
                15_485_863 * (cfg.seed + 1) + self.epoch
            )
            pairs.append((self.scores, torch.rand(self.scores.shape, generator=generator)))
        with self._on_stream():
            for here, there in pairs:
                if self.stream is not None:
                    there = there.pin_memory()
                here.copy_(there, non_blocking=True)
            self.rate.fill_(cfg.rate * 0.1**passed)
        self._began = True

    # epochs -------------------------------------------------------------------------
    @property
    def at_end(self) -> bool:
        """Whether the epoch's last batch is done."""
        return self.done >= self.images

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.status != "running"

    @torch.no_grad()
    def errors(self, theta: Tensor | None = None, stats: Tensor | None = None) -> Tensor:
        """Return the number of wrong test images, on the device."""
        store = self.store
        theta = self.theta if theta is None else theta
        stats = self.stats if stats is None else stats
        chunk = 1000 if self.stream is not None else 250
        with self._on_stream():
            h = steps(self.how, self.tau, self.movable)
            wrong = torch.zeros((), dtype=torch.int64, device=self.device)
            for start in range(0, store.test_images, chunk):
                stop = min(start + chunk, store.test_images)
                x = store.test_batch(start, stop, self.dtype)
                guess = self.net(theta, stats, x, h, training=False).argmax(1)
                wrong += (guess != store.test_labels[start:stop]).sum()
        return wrong

    def close_epoch(self, wrong: Tensor | None) -> dict[str, Any]:
        """Note the finished epoch and return its entry; reads from the device."""
        if self.stream is not None:
            self.stream.synchronize()
        loss, missed = (self.totals / self.images).tolist()
        known = math.isfinite(loss)
        finite = known and bool(torch.isfinite(self.theta.detach()).all())
        self.epoch += 1
        share = None if wrong is None else 100.0 * int(wrong) / self.store.test_images
        entry = {
            "epoch": self.epoch,
            "loss": loss if known else None,
            "train_error": 100.0 * missed,
            "test_error": share if finite else None,
            "reorderings": self.moved.tolist(),
        }
        self.history.append(entry)
        with torch.no_grad(), self._on_stream():
            for tensor in (self.position, self.totals, self.moved):
                tensor.zero_()
        self.done, self._began = 0, False
        if not finite:
            self.status = "diverged"
        elif self.epoch >= self.cfg.epochs:
            self.status = "finished"
            self.shuffled = self._shuffle()
        if self.finished:
            self._graphs.clear()
        return entry

    @torch.no_grad()
    def _shuffle(self, draws: int = 3) -> dict[str, Any]:
        """Test error after shuffling the blocks within stages, steps left in place.

        A stage of two or more blocks never keeps its order.
        """
        generator = torch.Generator().manual_seed(104_729 + self.cfg.seed)
        shares = []
        for _ in range(draws):
            theta, stats = self.theta.detach().clone(), self.stats.clone()
            for m, where, running in self.net.stacks:
                order = torch.arange(m)
                while m > 1 and order.equal(torch.arange(m)):
                    order = torch.randperm(m, generator=generator)
                for vector, part in ((theta, where), (stats, running)):
                    if m:
                        rows = vector[part].view(m, -1)
                        rows.copy_(rows.index_select(0, order.to(self.device)))
            if self.stream is not None:
                torch.cuda.current_stream().synchronize()
            wrong = self.errors(theta, stats)
            if self.stream is not None:
                self.stream.synchronize()
            shares.append(100.0 * int(wrong) / self.store.test_images)
        return {"draws": draws, "test_errors": shares, "mean": sum(shares) / draws}

    # state --------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return everything needed to go on, on the CPU."""
        if self.stream is not None:
            self.stream.synchronize()
        tensors = {name: getattr(self, name).detach().cpu().clone() for name in _TENSORS}
        return {
            "tensors": tensors, "images": self.images, "epoch": self.epoch, "done": self.done,
            "history": self.history, "seconds": self.seconds, "devices": self.devices,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state, to the same bits.

        Raises
        ------
        CifarError
            If the state belongs to a data set of another size.
        """
        if state["images"] != self.images:
            raise CifarError(
                f"checkpoint: {self.cfg.name} began with {state['images']} training images, "
                f"now there are {self.images}; name the same data or delete the checkpoint"
            )
        with torch.no_grad():
            for name, tensor in state["tensors"].items():
                getattr(self, name).copy_(tensor)
        self.epoch, self.done = state["epoch"], state["done"]
        self.history, self.seconds = list(state["history"]), state["seconds"]
        self.devices = list(dict.fromkeys([*state["devices"], *self.devices]))
        self._began = False
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
