import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.blocks import NeuronBlock
from mflib.gradient_flow import Path, descend, integrate, time_scale
from mflib.lu2020.wasserstein_flow import Particles, Velocity, WassersteinFlow
from mflib.problem import Problem
from mflib.stepping import chebyshev_step, runge_kutta_step

L, N, S, BLOCK = 6, 7, 3, NeuronBlock(2, "tanh")
FLOW = WassersteinFlow(Problem(BLOCK, randn(5, 2), randn(5, seed=1), steps=L))
TIGHT = dict(rtol=1e-12, atol=1e-13)
T = torch.special.chebyshev_polynomial_t
U = torch.special.chebyshev_polynomial_u


def depths(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed), dtype=DOUBLE)


def scalar(value):
    return torch.tensor(value, dtype=DOUBLE)


CLOUD = Particles(randn(N, BLOCK.k, seed=2), depths(N))
CLOUDS = Particles(randn(S, N, BLOCK.k, seed=4), depths(S, N, seed=4))


def linear(rate, slow=0.0):
    """The flow of E = -rate |theta|^2 / 2 - slow (t - 1/2)^2 / 2, averaged."""

    def velocity(q):
        energy = -0.5 * rate * q.theta.square().sum(-1) - 0.5 * slow * (q.t - 0.5) ** 2
        return Velocity(rate * q.theta, slow * (q.t - 0.5), energy.mean(-1))

    return velocity


def logistic(q):
    """theta' = -theta |theta| and t' = t (1 - t), both solved in closed form below."""
    return Velocity(-q.theta * q.theta.abs(), q.t * (1 - q.t), q.t.sum(-1))


def solved(q, s):
    grown = q.t * math.exp(s)
    return q.theta / (1 + s * q.theta.abs()), grown / (1 - q.t + grown)


def distance(q, exact):
    return float((q.theta - exact[0]).norm()), float((q.t - exact[1]).norm())


def counted(velocity):
    calls = []

    def counting(q):
        calls.append(q)
        return velocity(q)

    return counting, calls


def test_one_step_is_the_taylor_polynomial_of_its_order():
    for method, terms in (("euler", 1), ("midpoint", 2), ("rk4", 4)):
        end = runge_kutta_step(linear(-0.6, -0.9), CLOUD, 0.5, method)
        for z, moved, start in (
            (-0.3, end.theta, CLOUD.theta),
            (-0.45, end.t - 0.5, CLOUD.t - 0.5),
        ):
            factor = sum(z**j / math.factorial(j) for j in range(terms + 1))
            torch.testing.assert_close(moved, factor * start, **TIGHT)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_steps_have_the_order_of_their_tableau(method, order):
    ends = [integrate(logistic, CLOUD, 1.0, steps, method).end for steps in (32, 64)]
    coarse, fine = (distance(end, solved(CLOUD, 1.0)) for end in ends)
    for a, b in zip(coarse, fine, strict=True):
        assert math.log2(a / b) == pytest.approx(order, abs=0.2)


def test_a_known_first_slope_saves_an_evaluation_and_changes_nothing():
    first = FLOW.velocity(CLOUD)
    for step, calls in (
        (lambda v, **k: runge_kutta_step(v, CLOUD, 0.1, **k), 4),
        (lambda v, **k: chebyshev_step(v, CLOUD, 0.1, 5, **k), 5),
    ):
        plain, all_calls = counted(FLOW.velocity)
        known, fewer = counted(FLOW.velocity)
        one, two = step(plain), step(known, first=first)
        assert torch.equal(one.theta, two.theta) and torch.equal(one.t, two.t)
        assert (len(all_calls), len(fewer)) == (calls, calls - 1)


@pytest.mark.parametrize("stages", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("damping", [0.05, 0.4])
def test_the_chebyshev_step_multiplies_by_its_stability_polynomial(stages, damping):
    w0 = scalar(1 + damping / stages**2)
    w1 = T(w0, stages) / (stages * U(w0, stages - 1))
    h = 0.2
    for z in (-0.3, -1.1, -1.5 * stages**2):
        end = chebyshev_step(linear(z / h, 0.5 * z / h), CLOUD, h, stages, damping=damping)
        factor, half = (T(w0 + w1 * x, stages) / T(w0, stages) for x in (z, 0.5 * z))
        torch.testing.assert_close(end.theta, factor * CLOUD.theta, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(end.t - 0.5, half * (CLOUD.t - 0.5), rtol=1e-11, atol=1e-12)
        assert abs(float(factor)) < 1


def test_one_chebyshev_stage_is_eulers_step():
    one = chebyshev_step(FLOW.velocity, CLOUD, 0.1, 1)
    two = runge_kutta_step(FLOW.velocity, CLOUD, 0.1, "euler")
    torch.testing.assert_close((one.theta, one.t), (two.theta, two.t), **TIGHT)


@pytest.mark.parametrize("stages", [2, 5])
def test_the_chebyshev_step_has_order_one(stages):
    gaps = []
    for steps in (64, 128):
        at = CLOUD
        for _ in range(steps):
            at = chebyshev_step(logistic, at, 1 / steps, stages)
        gaps.append(distance(at, solved(CLOUD, 1.0)))
    for a, b in zip(*gaps, strict=True):
        assert math.log2(a / b) == pytest.approx(1, abs=0.1)


def test_stages_inside_the_interval_are_not_stopped_at_its_boundary():
    near = Particles(CLOUD.theta, 1 - 1e-3 * depths(N))
    end = chebyshev_step(linear(-1.0, -40.0), near, 1.0, 6)
    w0 = scalar(1 + 0.05 / 36)
    factor = T(w0 - 40 * T(w0, 6) / (6 * U(w0, 5)), 6) / T(w0, 6)
    torch.testing.assert_close(end.t - 0.5, factor * (near.t - 0.5), rtol=1e-11, atol=1e-12)


def test_no_step_leaves_the_interval():
    def push(q):
        return Velocity(torch.zeros_like(q.theta), torch.full_like(q.t, 9.0), q.t.sum(-1))

    for end in (runge_kutta_step(push, CLOUD, 1.0), chebyshev_step(push, CLOUD, 1.0, 5)):
        assert (end.t == 1).all()
        torch.testing.assert_close(end.theta, CLOUD.theta, **TIGHT)


def test_a_batch_steps_like_its_members_each_with_its_own_h():
    h = torch.tensor([0.05, 0.4, 0.2], dtype=DOUBLE)
    for step in (
        lambda q, h: runge_kutta_step(FLOW.velocity, q, h),
        lambda q, h: chebyshev_step(FLOW.velocity, q, h, 4),
    ):
        together = step(CLOUDS, h)
        for i in range(S):
            alone = step(CLOUDS[i], float(h[i]))
            torch.testing.assert_close(together.theta[i], alone.theta, **TIGHT)
            torch.testing.assert_close(together.t[i], alone.t, **TIGHT)


def test_the_order_of_the_particles_does_not_matter():
    order = torch.tensor([3, 1, 0, 6, 5, 2, 4])
    mixed = Particles(CLOUD.theta[order], CLOUD.t[order])
    one, two = (integrate(FLOW.velocity, q, 0.4, 4) for q in (CLOUD, mixed))
    torch.testing.assert_close(two.end.theta, one.end.theta[order], **TIGHT)
    torch.testing.assert_close(two.end.t, one.end.t[order], **TIGHT)
    torch.testing.assert_close(two.loss, one.loss, **TIGHT)


def test_a_path_records_times_losses_dissipation_and_snapshots():
    velocity, calls = counted(linear(-1.0, -2.0))
    path = integrate(velocity, CLOUD, 0.8, 80, keep=(0, 40, 80))
    assert len(calls) == 80 * 4 + 1
    s = 0.8 * torch.arange(81, dtype=DOUBLE) / 80
    torch.testing.assert_close(path.times, s, **TIGHT)
    parts = torch.stack(
        [
            CLOUD.theta.square().sum(-1).mean() * (-2 * s).exp(),
            4 * (CLOUD.t - 0.5).square().mean() * (-4 * s).exp(),
        ],
        -1,
    )
    torch.testing.assert_close(path.dissipation, parts, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(
        path.loss, 0.5 * parts[:, 0] + 0.25 * parts[:, 1], rtol=1e-8, atol=1e-10
    )
    assert len(path.kept) == 3
    assert torch.equal(path.kept[0].theta, CLOUD.theta)
    torch.testing.assert_close(path.kept[1].theta, CLOUD.theta * math.exp(-0.4))
    assert torch.equal(path.kept[2].t, path.end.t)


def test_a_batch_of_paths_equals_its_members():
    together = integrate(FLOW.velocity, CLOUDS, 0.4, 4)
    assert together.loss.shape == (S, 5) and together.dissipation.shape == (S, 5, 2)
    alone = integrate(FLOW.velocity, CLOUDS[2], 0.4, 4)
    torch.testing.assert_close(together.loss[2], alone.loss, **TIGHT)
    torch.testing.assert_close(together.dissipation[2], alone.dissipation, **TIGHT)
    torch.testing.assert_close(together.defect()[2], alone.defect(), **TIGHT)
    torch.testing.assert_close(together.end.t[2], alone.end.t, **TIGHT)


def test_simpsons_rule_closes_the_identity_exactly_for_cubic_dissipation():
    s = torch.linspace(0.0, 2.0, 7, dtype=DOUBLE)
    rate = torch.stack([1 + s**3, 2 * s**2 + s], -1)
    loss = 5.0 - s - s**4 / 4 - 2 * s**3 / 3 - s**2 / 2
    path = Path(CLOUD, s, loss, rate)
    torch.testing.assert_close(path.defect(), torch.zeros(3, dtype=DOUBLE), **TIGHT)
    leak = Path(CLOUD, s, torch.stack([loss, loss + 0.1 * s]), rate.expand(2, -1, -1))
    torch.testing.assert_close(leak.defect()[1], 0.1 * s[2::2], **TIGHT)


def test_the_energy_identity_closes_at_order_four_and_fails_for_a_wrong_velocity():
    defects = [float(integrate(FLOW.velocity, CLOUD, 0.2, n).defect()[-1].abs()) for n in (8, 16)]
    assert math.log2(defects[0] / defects[1]) == pytest.approx(4.0, abs=0.3)

    def wrong(q):
        v = FLOW.velocity(q)
        return Velocity(v.theta, 1.1 * v.t, v.loss)

    assert float(integrate(wrong, CLOUD, 0.2, 16).defect()[-1].abs()) > 100 * defects[1]


def test_descent_never_lets_the_energy_rise_and_takes_only_steps_that_lose_enough():
    for share, first in ((0.5, 30.0), (0.9, 3.0)):
        path = descend(FLOW, CLOUDS, 40, share=share, first=first)
        taken = path.times.diff(dim=-1)
        lost = -path.loss.diff(dim=-1)
        assert path.times.shape == path.loss.shape == (S, 41)
        assert (lost >= 0).all() and (lost[taken > 0] > 0).all() and (path.times[:, 0] == 0).all()
        floor = share * taken * path.dissipation.sum(-1)[:, 1:]
        assert (lost >= floor * (1 - 1e-9)).all()
        # the step grows by a quarter after a success and is halved after a failure
        h = torch.full((S,), first, dtype=DOUBLE)
        for k in range(40):
            good = taken[:, k] > 0
            torch.testing.assert_close(taken[:, k][good], h[good], rtol=1e-9, atol=1e-9)
            assert (lost[:, k][~good] == 0).all()
            h = torch.where(good, 1.25 * h, 0.5 * h)
        assert (taken == 0).any() and (taken > 0).any()


def test_the_end_of_a_descent_has_the_recorded_loss_and_dissipation():
    start = CLOUDS.theta.clone()
    path = descend(FLOW, CLOUDS, 20)
    assert torch.equal(CLOUDS.theta, start)
    there = FLOW.velocity(path.end)
    torch.testing.assert_close(there.loss, path.loss[:, -1], **TIGHT)
    torch.testing.assert_close(there.dissipation, path.dissipation[:, -1], **TIGHT)
    here = FLOW.velocity(CLOUDS)
    torch.testing.assert_close(here.loss, path.loss[:, 0], **TIGHT)
    torch.testing.assert_close(here.dissipation, path.dissipation[:, 0], **TIGHT)


def test_small_steps_of_descent_follow_the_flow():
    gaps = []
    for first in (2e-3, 1e-3):
        path = descend(FLOW, CLOUDS[:1], 6, first=first)
        exact = integrate(FLOW.velocity, CLOUDS[:1], float(path.times[0, -1]), 4).end
        assert (path.times.diff(dim=-1) > 0).all()
        gaps.append(distance(path.end, (exact.theta, exact.t)))
    for coarse, fine in zip(*gaps, strict=True):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.2)


def plain_descent(cloud, steps, until, first):
    """One member alone, every velocity computed anew."""
    h, clock, times = first, 0.0, [0.0]
    for _ in range(steps):
        if float(FLOW.loss(cloud)) > until:
            trial = chebyshev_step(FLOW.velocity, cloud, h, 5)
            there = FLOW.velocity(trial)
            lost = float(FLOW.loss(cloud) - there.loss)
            if lost >= 0.5 * h * float(there.dissipation.sum()):
                cloud, clock, h = trial, clock + h, 1.25 * h
            else:
                h = 0.5 * h
        times.append(clock)
    return cloud, torch.tensor(times, dtype=DOUBLE)


def test_descent_with_rejections_and_early_ends_equals_a_plain_loop():
    # the first two members stop at different times, with other step sizes than the third
    until, first = 0.01, 3.0
    path = descend(FLOW, CLOUDS, 30, until=until, first=first)
    refused = path.times.diff(dim=-1).eq(0) & (path.loss[:, 1:] > until)
    assert len(set(refused.sum(-1).tolist())) > 1 and refused.any()
    assert len(set((path.loss > until).sum(-1).tolist())) > 1
    for i in range(S):
        cloud, times = plain_descent(CLOUDS[i], 30, until, first)
        torch.testing.assert_close(path.times[i], times, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(path.end.theta[i], cloud.theta, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(path.end.t[i], cloud.t, rtol=1e-8, atol=1e-9)


def test_members_stop_one_by_one_at_the_wanted_loss():
    start = FLOW.loss(CLOUDS)
    until = float(0.5 * start.min())
    path = descend(FLOW, CLOUDS, 60, until=until)
    assert (path.loss[:, -1] <= until).all()
    ends = []
    for i in range(S):
        stop = int((path.loss[i] <= until).nonzero()[0])
        ends.append(stop)
        assert 0 < stop < 60 and (path.times[i, stop:] == path.times[i, stop]).all()
        assert (path.loss[i, stop:] == path.loss[i, stop]).all()
        assert (path.dissipation[i, stop:] == path.dissipation[i, stop]).all()
    assert len(set(ends)) > 1
    torch.testing.assert_close(FLOW.loss(path.end), path.loss[:, -1], **TIGHT)


def test_who_is_finished_at_the_start_does_not_move():
    start = FLOW.loss(CLOUDS)
    least = int(start.argmin())
    path = descend(FLOW, CLOUDS, 5, until=float(start.min()))
    assert torch.equal(path.end.theta[least], CLOUDS.theta[least])
    assert torch.equal(path.end.t[least], CLOUDS.t[least])
    assert (path.times[least] == 0).all() and (path.times.amax(-1) > 0).sum() == S - 1


def test_a_linear_flow_changes_its_velocity_in_one_over_its_rate():
    for rate in (-4.0, -0.25):
        scale = time_scale(linear(rate, rate), CLOUDS)
        torch.testing.assert_close(scale, torch.full((S,), 1 / abs(rate), dtype=DOUBLE))


def test_the_time_scale_agrees_with_a_derivative_by_autograd():
    def stacked(theta, t):
        v = FLOW.velocity(Particles(theta, t))
        return v.theta, v.t

    v = FLOW.velocity(CLOUD)
    _, change = torch.autograd.functional.jvp(
        stacked, (CLOUD.theta, CLOUD.t), (v.theta, v.t), create_graph=False
    )
    exact = v.dissipation.sum() / Velocity(*change, v.loss).dissipation.sum()
    got = time_scale(FLOW.velocity, CLOUD)
    torch.testing.assert_close(got, exact.sqrt(), rtol=1e-3, atol=0)
    shuffled = CLOUD[torch.arange(N - 1, -1, -1)]
    torch.testing.assert_close(time_scale(FLOW.velocity, shuffled), got, rtol=1e-7, atol=0)


@pytest.mark.parametrize("stages", range(1, 17))
def test_a_particle_that_the_boundary_holds_stays_on_it_in_every_stage(stages):
    seen = []

    def outward(q):  # without flux through 0 and 1
        seen.append(q.t)
        v = torch.where(q.t < 0.5, -1.0, 1.0) * ((q.t > 0) & (q.t < 1))
        return Velocity(torch.zeros_like(q.theta), v.to(q.t), q.t.sum(-1))

    start = Particles(randn(4, 3), torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=DOUBLE))
    end = chebyshev_step(outward, start, 0.1, stages)
    for t in [*seen, end.t]:
        assert torch.equal(t, start.t)


def test_each_member_of_a_batch_may_have_a_time_of_its_own():
    times = torch.tensor([0.1, 0.2, 0.4], dtype=DOUBLE)
    together = integrate(FLOW.velocity, CLOUDS, times, 4)
    for i, time in enumerate(times.tolist()):
        alone = integrate(FLOW.velocity, CLOUDS[i], time, 4)
        torch.testing.assert_close(alone.end.theta, together.end.theta[i], **TIGHT)
        torch.testing.assert_close(alone.times, together.times[i], **TIGHT)
        torch.testing.assert_close(alone.defect(), together.defect()[i], rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("shared", [True, False])
def test_a_descent_of_a_batch_equals_its_members_in_any_order(shared):
    x = randn(5, 2) if shared else randn(S, 5, 2)
    flow = WassersteinFlow(Problem(BLOCK, x, randn(S, 5, seed=1), steps=L))
    until = float(0.6 * flow.loss(CLOUDS).min())
    together = descend(flow, CLOUDS, 30, until=until)
    order = torch.tensor([2, 0, 1])
    mixed = descend(flow.members(order), CLOUDS[order], 30, until=until)
    torch.testing.assert_close(mixed.loss, together.loss[order], rtol=1e-9, atol=1e-12)
    for i in range(S):
        one = torch.tensor([i])
        alone = descend(flow.members(one), CLOUDS[one], 30, until=until)
        for name in ("times", "loss", "dissipation"):
            torch.testing.assert_close(
                getattr(alone, name)[0], getattr(together, name)[i], rtol=1e-9, atol=1e-12
            )
        torch.testing.assert_close(alone.end.theta[0], together.end.theta[i], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(alone.end.t[0], together.end.t[i], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: integrate(FLOW.velocity, CLOUD, -1.0, 4), "time: expected a finite number > 0"),
        (
            lambda: integrate(FLOW.velocity, CLOUD, math.inf, 4),
            "time: expected a finite number > 0",
        ),
        (lambda: integrate(FLOW.velocity, CLOUD, 1.0, 0), "steps: expected an integer"),
        (lambda: integrate(FLOW.velocity, CLOUD, 1.0, 3).defect(), "even number of equal steps"),
        (lambda: descend(FLOW, CLOUDS, 4).defect(), "even number of equal steps"),
        (lambda: chebyshev_step(FLOW.velocity, CLOUD, 0.1, 0), "stages: expected an integer"),
        (lambda: descend(FLOW, CLOUD, 4), "one batch dimension"),
        (
            lambda: descend(FLOW, CLOUDS, 4, share=0.0),
            "share: expected a finite number > 0 and <= 1",
        ),
        (
            lambda: descend(FLOW, CLOUDS, 4, share=1.5),
            "share: expected a finite number > 0 and <= 1",
        ),
        (lambda: descend(FLOW, CLOUDS, 0), "steps: expected an integer"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="method: no 'heun'; choose one of"):
        integrate(FLOW.velocity, CLOUD, 1.0, 4, "heun")
