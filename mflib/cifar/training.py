r"""The trainer: one run of a recipe, a step at a time.

Every random number of a run follows from its seed and epoch alone, so its state is a few
tensors, and a run that was killed goes on to the same bits. On a CPU a step is called as
it is; on a GPU :mod:`mflib.cifar.graphs` replays it as one CUDA graph on the run's stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import CifarError
from .algorithm_one import initial_stamps, rearrange, rule, steps
from .depth_velocity import depth_gradient
from .networks import Network, network
from .recipe import Config
from .store import Store, epoch_plan

__all__ = ["STATE", "Run"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: The tensors that a step changes: with epoch and history they are the state of a run.
STATE = (
    "theta",
    "momentum",
    "stats",
    "tau",
    "tau_momentum",
    "blocks",
    "position",
    "totals",
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
        Stamp of the block in each place, its momentum, and the block's number.
    history : list of dict
        One entry a finished epoch.
    act : callable
        Advances by one batch of a given size.
    stream : torch.cuda.Stream, optional
        Where it runs on a GPU.
    """

    def __init__(self, cfg: Config, store: Store, net: Network | None = None) -> None:
        if cfg.pad != store.pad:
            raise CifarError(f"pad: the run pads images by {cfg.pad}, its data by {store.pad}")
        self.cfg, self.store, self.how = cfg, store, rule(cfg.rule)
        self.net = network(cfg.net, store.classes) if net is None else net
        if self.net.arch.size != store.size:
            raise CifarError(
                f"data: {cfg.net} takes images of side {self.net.arch.size}, not {store.size}"
            )
        self.movable = self.net.arch.movable
        self.device, self.dtype = store.device, _DTYPES[cfg.precision]
        generator = torch.Generator().manual_seed(cfg.seed)
        theta, stats = self.net.initial(generator)
        extra = torch.Generator().manual_seed(7_919 + cfg.seed)
        tau = initial_stamps(self.how, self.movable, extra)
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
        if self.how.moves == "others":
            self.scores = torch.zeros(-(-n // cfg.batch), len(self.tau), device=put)
        self.epoch, self.done, self.history = 0, 0, []
        self.seconds, self.status, self._began = 0.0, "running", False
        self._line = torch.arange(cfg.batch, device=put)
        self.act: Callable[[int], Any] = self.eager
        self.stream: Any = None
        self.shuffled: dict[str, Any] | None = None

    # one step -----------------------------------------------------------------------
    def rows(self) -> list[list[Tensor]]:
        """For each stage the tensors whose rows travel with a block."""
        out, start = [], 0
        for m, where, running in self.net.stacks:
            pair = (self.theta.detach()[where], self.momentum[where], self.stats[running])
            rows = [vector.view(m, -1) for vector in pair if m]
            out.append([*rows, self.blocks[start : start + m]])
            start += m
        return out

    def _gradients(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Return loss, logits, and what moves theta and the stamps."""
        how, states = self.how, []
        heights = steps(how, self.tau, self.movable)
        if how.velocity != "flow":
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

    def eager(self, size: int) -> None:
        """Take the step of the next `size` images as it is written."""
        where = self.position + self._line[:size]
        index = self.order.index_select(0, where)
        x = self.store.batch(
            index,
            self.crop.index_select(0, where),
            self.flip.index_select(0, where),
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
                moved = rearrange(
                    self.how,
                    self.tau,
                    [self.tau_momentum],
                    self.rows(),
                    self.movable,
                    scores,
                )
                if moved is not None:
                    self.moved.add_(moved)
            wrong = (logits.argmax(1) != y).sum()
            self.totals.add_(torch.stack([loss.detach().double() * size, wrong.double()]))
            self.position.add_(size)

    def on_stream(self) -> Any:
        """A context in which work goes to the run's stream, where it has one."""
        return torch.cuda.stream(self.stream)  # does nothing for None

    def wait(self) -> None:
        """Wait until the device has done what it was told."""
        if self.stream is not None:
            self.stream.synchronize()

    def step(self) -> int:
        """Advance by one batch and return its number of images."""
        if not self._began:
            self.begin_epoch()
        size = min(self.cfg.batch, self.images - self.done)
        with self.on_stream():
            self.act(size)
        self.done += size
        return size

    def begin_epoch(self) -> None:
        """Put the epoch's order, crops, flips and rate on the device.

        The rate is divided by 10 after 1/2 and after 3/4 of all epochs.
        """
        cfg, store = self.cfg, self.store
        plan = epoch_plan(self.images, cfg.seed, self.epoch, store.pad, store.flip)
        milestones = cfg.epochs // 2, 3 * cfg.epochs // 4
        passed = sum(self.epoch >= milestone > 0 for milestone in milestones)
        pairs = [(self.order, plan.order), (self.crop, plan.crop), (self.flip, plan.flip)]
        if self.scores is not None:
            generator = torch.Generator().manual_seed(15_485_863 * (cfg.seed + 1) + self.epoch)
            pairs.append((self.scores, torch.rand(self.scores.shape, generator=generator)))
        with self.on_stream():
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
        chunk = 1000 if self.device.type == "cuda" else 250
        with self.on_stream():
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
        self.wait()
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
        if self.how.learns and finite:
            tau = self.tau.detach().split(list(self.movable))
            entry["tau"] = [[round(t, 4) for t in part.tolist()] for part in tau]
        self.history.append(entry)
        with torch.no_grad(), self.on_stream():
            for tensor in (self.position, self.totals, self.moved):
                tensor.zero_()
        self.done, self._began = 0, False
        if not finite:
            self.status = "diverged"
        elif self.epoch >= self.cfg.epochs:
            self.status = "finished"
            self.shuffled = self._shuffle()
        if self.finished:
            self.act = self.eager  # lets go of graphs
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
            self.wait()
            shares.append(100.0 * int(wrong) / self.store.test_images)
        return {"draws": draws, "test_errors": shares, "mean": sum(shares) / draws}

    # state --------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return everything needed to go on, on the CPU."""
        self.wait()
        tensors = {name: getattr(self, name).detach().cpu().clone() for name in STATE}
        return {
            "tensors": tensors,
            "images": self.images,
            "epoch": self.epoch,
            "done": self.done,
            "history": self.history,
            "seconds": self.seconds,
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
        self.wait()
        with torch.no_grad():
            for name, tensor in state["tensors"].items():
                getattr(self, name).copy_(tensor)
        self.epoch, self.done = state["epoch"], state["done"]
        self.history, self.seconds = list(state["history"]), state["seconds"]
        self._began = False
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
