"""The trainer: the stated recipe, resumed to the same bits, free of host synchronisation."""

import contextlib
import dataclasses

import pytest
import torch
from cifar_files import PlainNetwork, copy_parameters, random_store
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mflib.cifar import CifarError, graphs, recipe, records, training
from mflib.cifar.algorithm_one import RULES, steps
from mflib.cifar.architectures import residual
from mflib.cifar.group import advance
from mflib.cifar.networks import Network
from mflib.cifar.training import Run

NET = Network(residual("toy", (3, 3), (8, 16), 10, size=8))


def make(how="mean-field", seed=0, store=None, net=NET, **changes):
    cfg = recipe.config("resnet20", how, seed, epochs=3, subset=50)
    cfg = dataclasses.replace(cfg, **({"batch": 16} | changes))
    return Run(cfg, store or random_store(), net)


def finish(run):
    while not run.finished:
        run.step()
        if run.at_end:
            run.close_epoch(run.errors())
    return run


def same(a, b):
    assert a.history == b.history
    return all(
        getattr(a, name).detach().equal(getattr(b, name).detach()) for name in training.STATE
    )


def test_steps_equal_torch_sgd_on_modules_over_two_epochs():
    run = make("vanilla", epochs=4)  # milestones after epochs 2 and 3
    module = PlainNetwork(NET.arch)
    copy_parameters(NET, run.theta, module)
    sgd = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    for epoch in range(4):
        for group in sgd.param_groups:
            group["lr"] = 0.1 * 0.1 ** sum(epoch >= e for e in (2, 3))
        run.begin_epoch()
        for start in range(0, 50, 16):
            part = slice(start, min(start + 16, 50))
            index = run.order[part]
            x = run.store.batch(index, run.crop[part], run.flip[part], torch.float32)
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(module(x), run.store.labels[index]).backward()
            sgd.step()
            run.step()
        run.close_epoch(None)
    twin = PlainNetwork(NET.arch)
    copy_parameters(NET, run.theta, twin)
    for ours, theirs in zip(twin.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_test_error_counts_every_test_image_once():
    run = make("free-steps", store=random_store(50, tests=530))
    with torch.no_grad():
        run.tau.add_(torch.rand(5, generator=torch.Generator().manual_seed(1)))
    while not run.at_end:
        run.step()
    heights = steps(run.how, run.tau.detach(), run.movable)
    with torch.no_grad():
        x = run.store.test_batch(0, 530, torch.float32)
        guess = NET(run.theta, run.stats, x, heights, training=False).argmax(1)
    wrong = int((guess != run.store.test_labels).sum())
    before = run.stats.clone()
    assert int(run.errors()) == wrong and 0 < wrong < 530
    assert run.stats.equal(before)
    assert run.close_epoch(run.errors())["test_error"] == pytest.approx(100 * wrong / 530)


def test_the_record_keeps_the_last_error_and_the_best_beside_it():
    run = finish(make("vanilla"))
    for entry, error in zip(run.history, (70.0, 50.0, 60.0), strict=True):
        entry["test_error"] = error
    final = records.describe(run)["final"]
    assert (final["test_error"], final["best_error"], final["best_epoch"]) == (60.0, 50.0, 2)


def test_pairs_share_initialisation_and_data_order():
    vanilla, meanfield = make("vanilla"), make("mean-field")
    assert vanilla.theta.equal(meanfield.theta)
    vanilla.step(), meanfield.step()
    assert vanilla.order.equal(meanfield.order) and vanilla.crop.equal(meanfield.crop)
    assert vanilla.totals.equal(meanfield.totals)
    assert not make("vanilla", seed=1).theta.equal(vanilla.theta)


@pytest.mark.parametrize("how", RULES)
def test_every_method_trains_and_writes_plain_json(how, tmp_path):
    run = finish(make(how))
    record = records.describe(run)
    assert run.status == "finished" and record["final"]["test_error"] is not None
    assert len(record["epochs"]) == 3 and run.cfg.protocol is None
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    records.write_record(tmp_path, record)
    assert records.read_records(tmp_path)[0] == record | {"protocol": None}
    frozen = how == "vanilla"
    assert (record["final"]["tau"] is None) == frozen
    assert record["shuffled"]["draws"] == 3


def test_depths_go_down_their_gradient_with_momentum_and_without_decay():
    run = make("free-steps")
    tau, speed = run.tau.detach().clone(), torch.zeros(5)
    run.begin_epoch()
    for start in (0, 16):
        index = run.order[start : start + 16]
        x = run.store.batch(
            index, run.crop[start : start + 16], run.flip[start : start + 16], torch.float32
        )
        tau.requires_grad_()
        logits = NET(run.theta, run.stats.clone(), x, steps(run.how, tau, (3, 2)))
        loss = torch.nn.functional.cross_entropy(logits, run.store.labels[index])
        (grad,) = torch.autograd.grad(loss, tau)
        assert grad.abs().max() > 1e-3
        speed = 0.9 * speed + grad
        tau = (tau - 0.1 * speed).detach()
        run.step()
        torch.testing.assert_close(run.tau.detach(), tau, rtol=0, atol=1e-6)


def test_decay_and_rate_of_tau_follow_the_method():
    changed = ("stamps-decay", "stamps-rate-0.1", "stamps-rate-10")
    runs = {how: make(how) for how in ("mean-field", *changed)}
    start = runs["mean-field"].tau.detach().clone()
    for run in runs.values():
        run.step()
    moved = {how: run.tau.detach() - start for how, run in runs.items()}
    for factor, atol in ((0.1, 1e-6), (10, 1e-5)):
        torch.testing.assert_close(
            moved[f"stamps-rate-{factor}"], factor * moved["mean-field"], atol=atol, rtol=0
        )
    torch.testing.assert_close(
        moved["stamps-decay"] - moved["mean-field"], -0.1 * 1e-4 * start, atol=1e-6, rtol=0
    )


def test_a_block_takes_parameters_momentum_and_statistics_along():
    run = make("mean-field")
    run.step()
    blocks, where, running = NET.stacks[0]
    vectors = {"theta": where, "momentum": where, "stats": running}
    before = {name: getattr(run, name).detach().clone() for name in vectors}
    speed = run.tau_momentum.clone()
    with torch.no_grad():  # exchange the depths of the first two blocks of stage 0
        run.tau[:2] = run.tau[:2].flip(0)
        run.tau_momentum[:2] = run.tau_momentum[:2].flip(0)
    training.rearrange(run.how, run.tau, [run.tau_momentum], run.rows(), run.movable)
    for name, part in vectors.items():
        now, old = getattr(run, name).detach(), before[name]
        assert now[part].view(blocks, -1).equal(old[part].view(blocks, -1)[[1, 0, 2]])
        assert not now[part].equal(old[part])
        now[part] = old[part]
        assert now.equal(old)  # nothing else moved
    assert run.blocks.tolist() == [1, 0, 2, 0, 1]
    assert run.tau_momentum.equal(speed)


def test_a_step_hands_the_momentum_of_tau_to_the_sort(monkeypatch):
    run, seen = make("mean-field"), []
    monkeypatch.setattr(training, "rearrange", lambda how, tau, follow, *rest: seen.append(follow))
    run.step()
    assert seen[0][0] is run.tau_momentum


def test_reorderings_are_counted_and_blocks_remember_their_numbers():
    run = make("T1", rate=2.0, epochs=2)
    finish(run)
    moved = sum(sum(entry["reorderings"]) for entry in run.history)
    order = records.describe(run)["final"]["order"]
    assert moved > 0
    assert [sorted(part) for part in order] == [[0, 1, 2], [0, 1]]
    assert (run.tau.detach().split([3, 2])[0].diff() >= 0).all()


@pytest.mark.parametrize("stop_at", [1, 3, 4, 6])
@pytest.mark.parametrize("how", ["mean-field", "others-move"])
def test_resumed_at_any_step_it_ends_with_the_same_bits(how, stop_at, tmp_path):
    whole = finish(make(how, rate=1.0))
    part = make(how, rate=1.0)
    for _ in range(stop_at):
        part.step()
        if part.at_end:
            part.close_epoch(part.errors())
    records.save_checkpoint(tmp_path, part)
    resumed = make(how, rate=1.0)
    assert records.load_checkpoint(tmp_path, resumed)
    assert same(finish(resumed), whole)


def test_runs_advanced_together_equal_runs_alone():
    store = random_store()
    together = [make(how, seed, store) for seed in (0, 1) for how in ("vanilla", "T1")]
    recorded = []
    assert advance(together, finish=recorded.append)
    assert recorded == together
    for run in together:
        assert same(run, finish(make(run.cfg.rule, run.cfg.seed, store)))


def test_a_stop_saves_every_unfinished_run():
    runs, saved = [make("vanilla"), make("mean-field")], []
    asked = iter([False, False, True])
    assert not advance(runs, stop=lambda: next(asked), save=saved.append)
    assert saved == runs and all(run.done == 48 for run in runs)


def test_divergence_is_reported_as_such():
    run = make("mean-field", rate=1e30)
    while not run.finished:
        run.step()
        if run.at_end:
            run.close_epoch(run.errors())
    record = records.describe(run)
    assert record["status"] == "diverged"
    assert record["epochs"][-1]["loss"] is None
    assert record["final"]["test_error"] is None


def test_a_checkpoint_of_another_data_set_size_is_refused():
    state = make().state()
    other = make(store=random_store(40))
    with pytest.raises(CifarError, match="began with 50 training images"):
        other.restore(state)


class Devices(TorchDispatchMode):
    """Notes every operation that touches a tensor away from the device."""

    def __init__(self, device):
        super().__init__()
        self.device, self.strangers, self.operations = device, [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.operations += 1
        for leaf in tree_leaves((args, kwargs, out)):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != self.device:
                self.strangers.append(str(function))
        return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("how", RULES)
def test_a_step_stays_on_its_device_and_needs_no_value_on_the_host(how, precision):
    """As a graph demands: a meta tensor has no value, item() or a branch would raise."""
    run = make(how, precision=precision)
    run.begin_epoch()
    store = {"_pixels", "labels", "_scale", "_shift", "_line"}
    mine = {*training.STATE, "order", "crop", "flip", "scores", "rate", "_line"}
    for holder, names in ((run, mine), (run.store, store)):
        for name in names:
            t = getattr(holder, name)
            if t is not None:
                shell = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="meta")
                setattr(holder, name, shell.requires_grad_(t.requires_grad))
    with Devices("meta") as seen:
        run.eager(16)
    assert seen.operations > 100 and seen.strangers == []


class Stream:
    def synchronize(self):
        pass


def stand_in(monkeypatch, spoil=None, refuse=False):
    """Replace the CUDA calls: a captured step is one that is called when replayed."""
    log = []

    class Graph:
        def replay(self):
            log.append(("replay", self.size))
            self.run.eager(self.size)
            if spoil is not None:
                with torch.no_grad():
                    self.run.theta[0] += spoil

        def pool(self):
            return "pool"

    @contextlib.contextmanager
    def capture(graph, pool, stream, capture_error_mode):
        if refuse:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        log.append(("capture", pool))
        yield

    cuda = torch.cuda
    monkeypatch.setattr(cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(cuda, "graph", capture)
    monkeypatch.setattr(cuda, "synchronize", lambda *a: None)
    monkeypatch.setattr(cuda, "stream", lambda s: contextlib.nullcontext())
    monkeypatch.setattr(cuda, "current_stream", lambda *a: Stream())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    run = make("T1", rate=1.0)
    run.stream, run.act = Stream(), graphs.Graphs(run)
    real = run.act.capture

    def remember(size):
        graph = real(size)
        graph.run, graph.size = run, size
        return graph

    run.act.capture = remember
    return run, log


def test_capture_leaves_the_state_alone_and_replays_each_batch_size(monkeypatch, capsys):
    """The graph path with a stand-in for the CUDA calls: capture runs nothing for good."""
    run, log = stand_in(monkeypatch)
    finish(run)
    # batches of 16, then of 2, from one pool; 9 and 3 steps, and those of the two checks
    assert [what for what in log if what[0] == "capture"] == [
        ("capture", None),
        ("capture", "pool"),
    ]
    assert log.count(("replay", 16)) == 9 + 2 and log.count(("replay", 2)) == 3 + 1
    assert same(run, finish(make("T1", rate=1.0)))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("fault", [{"refuse": True}, {"spoil": 1e-7}, {"spoil": float("nan")}])
def test_where_capture_fails_or_differs_the_written_step_is_taken_and_said(
    fault, monkeypatch, capsys
):
    run, _ = stand_in(monkeypatch, **fault)
    finish(run)
    assert same(run, finish(make("T1", rate=1.0)))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2  # one line a batch size
    word = "not permitted when stream" if "refuse" in fault else "written steps differ by"
    assert all(run.cfg.name in line and word in line for line in said)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("how", ["vanilla", "T1", "others-move", "flow"])
def test_on_a_gpu_graphs_equal_plain_steps_and_resume_to_the_same_bits(how, precision):
    from mflib.cifar.group import pick_device

    store = random_store(device=pick_device("cuda"))
    captured = make(how, store=store, precision=precision)
    graphs.use_graphs(captured)
    finish(captured)
    plain = make(how, store=store, precision=precision)  # the same function, called as it is
    assert same(captured, finish(plain))
    part = make(how, store=store, precision=precision)
    for _ in range(3):
        part.step()
    resumed = make(how, store=store, precision=precision)
    graphs.use_graphs(resumed)
    resumed.restore(part.state())
    assert same(finish(resumed), captured)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("how", ["vanilla", "T1", "flow"])
def test_on_a_gpu_a_step_equals_the_step_on_the_cpu(how):
    from mflib.cifar.group import pick_device

    ours, theirs = make(how, store=random_store(device=pick_device("cuda"))), make(how)
    ours.step(), theirs.step()
    ours.state()  # waits for the stream
    for name in ("theta", "momentum", "stats", "tau"):
        here, there = getattr(ours, name).detach().cpu(), getattr(theirs, name).detach()
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)


def test_shuffling_never_keeps_an_order_and_leaves_the_run_alone(monkeypatch):
    run, seen = make("vanilla"), []
    before = run.theta.detach().clone()

    def errors(theta, stats):
        old, new = (net_rows(v) for v in (before, theta))
        order = [
            [next(j for j, b in enumerate(old[s]) if b.equal(row)) for row in new[s]]
            for s in (0, 1)
        ]
        assert all(
            net_rows_of(stats)[s][i].equal(net_rows_of(run.stats)[s][j])
            for s in (0, 1)
            for i, j in enumerate(order[s])
        )
        seen.append(order)
        return torch.tensor(4)

    def net_rows(vector):
        return [vector[where].view(m, -1) for m, where, _ in NET.stacks]

    def net_rows_of(vector):
        return [vector[where].view(m, -1) for m, _, where in NET.stacks]

    with torch.no_grad():
        run.stats.copy_(torch.rand(run.stats.shape, generator=torch.Generator().manual_seed(0)))
    monkeypatch.setattr(run, "errors", errors)
    assert run._shuffle(6)["mean"] == 20.0
    assert len(seen) == 6 and run.theta.equal(before)
    assert all(sorted(part) == list(range(len(part))) for order in seen for part in order)
    assert all(part != sorted(part) for order in seen for part in order)


def test_weights_that_are_not_finite_at_the_end_are_a_divergence():
    run = make("vanilla", epochs=1)
    while not run.at_end:
        run.step()
    with torch.no_grad():
        run.theta[0] = float("nan")
    run.close_epoch(run.errors())
    assert run.status == "diverged" and run.history[-1]["test_error"] is None
    assert run.history[-1]["loss"] is not None


def test_a_record_names_every_device_threads_and_versions_that_advanced_the_run(
    monkeypatch, tmp_path
):
    part = make()
    part.step()
    records.save_checkpoint(tmp_path, part)
    monkeypatch.setattr(records.provenance, "device", lambda device: "another card")
    for _ in range(2):  # a second resume on the same device adds nothing
        resumed = make()
        records.load_checkpoint(tmp_path, resumed)
        records.save_checkpoint(tmp_path, resumed)
    first, second = records.describe(finish(resumed))["advanced_by"]
    assert second == first | {"device": "another card"} and first != second
    assert first["threads"] == torch.get_num_threads()
    assert first["versions"]["torch"] == torch.__version__
