import math

import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.chen2024.perturbation import displacement_norm, worst_direction
from mflib.chen2024.stability import (
    KAPPA,
    gram_modulus,
    gram_root_modulus,
    gronwall_bounds,
    state_sensitivity,
)
from mflib.gram import neuron_gram

NET = ScaledResNet(3, "tanh", alpha=0.7, beta=2.0)
X = randn(4, 3) / randn(4, 3).norm(dim=-1, keepdim=True)
Y = randn(4, seed=1)


def particles(seed=0, batch=()):
    return initial_particles(3, 5, 6, 20, generator(seed), False, batch)


def test_kappa_is_the_largest_second_derivative_of_tanh():
    z = torch.linspace(-3, 3, 60001, dtype=DOUBLE)
    s = torch.tanh(z)
    assert float((2 * s * (1 - s**2)).abs().max()) == pytest.approx(KAPPA, rel=1e-8)


def test_the_modulus_for_gaussian_moments_is_the_closed_form():
    omega = torch.zeros(4, 5, dtype=DOUBLE)
    # two-point moments: E a^2 = 1 and E a^4 = 3
    omega[:, 0] = torch.tensor([3**0.5, -(3**0.5), 0.0, 0.0]) * (2 / 3) ** 0.5
    second = float(omega[:, 0].square().mean())
    fourth = float(omega[:, 0].pow(4).mean())
    expected = 2 * math.sqrt(2) + 2 * (2 * second**0.5 + 0.1)
    expected += 4 * math.sqrt(2) * KAPPA * fourth**0.5
    assert float(gram_modulus(omega, 0.1)) == pytest.approx(expected)
    gaussian = torch.randn(2_000_000, 1, generator=generator(), dtype=DOUBLE)
    closed = 2 * math.sqrt(2) + 4 + 4 * math.sqrt(6) * KAPPA
    assert float(gram_modulus(gaussian, 0.0)) == pytest.approx(closed, rel=0.01)


def test_the_gram_matrix_moves_less_than_its_modulus_allows():
    _, omega = particles(batch=(6,))
    ones = torch.ones(6, 4, 1, dtype=DOUBLE)

    def gram(o):
        return neuron_gram(NET.predictor, X, o, ones)

    direction, _ = worst_direction(lambda o: gram(o)[:, 0, :1], omega)
    for w in (1e-3, 0.1, 1.0):
        for v in (direction, -direction):
            change = (gram(omega + w * v) - gram(omega)).abs().amax((-1, -2))
            assert (change <= w * gram_modulus(omega, w)).all()


def test_no_quadratic_form_moves_more_than_the_root_modulus_allows():
    _, omega = particles(batch=(6,))
    ones = torch.ones(6, 4, 1, dtype=DOUBLE)

    def least(o):
        return torch.linalg.eigvalsh(neuron_gram(NET.predictor, X, o, ones))[:, 0]

    direction, _ = worst_direction(lambda o: -least(o)[:, None], omega)
    start = least(omega).sqrt()
    for w in (1e-4, 1e-3, 1e-2):
        fall = start - least(omega + w * direction).clamp_min(0).sqrt()
        assert (fall > 0).all()
        assert (fall <= gram_root_modulus(omega, X, w)).all()


def test_silent_neurons_attain_the_root_modulus_in_any_dimension():
    # one point and w = b = 0: the form is 2 a^2, and a small a moves by W
    point = torch.tensor([[0.6, 0.0, 0.8]], dtype=DOUBLE)
    omega = torch.zeros(2, 5, dtype=DOUBLE)
    omega[:, 0] = torch.tensor([1e-3, -1e-3])
    for w in (2e-4, 7e-4):
        assert float(gram_root_modulus(omega, point, w)) == pytest.approx(2**0.5 * w, rel=2e-3)
    # two points at a right angle: the operator norm of the rows (x, 1) is sqrt 3, not 2
    corner = torch.eye(3, dtype=DOUBLE)[:2]
    assert float(gram_root_modulus(0 * omega, corner, 0.1)) == pytest.approx(3**0.5 * 0.1)


def test_the_worst_weights_fill_a_mass_of_at_most_one():
    point = torch.tensor([[1.0, 0.0, 0.0]], dtype=DOUBLE)
    omega = torch.zeros(3, 4, 5, dtype=DOUBLE)
    omega[..., 0] = torch.tensor([1.0, -3.0, 2.0, 0.5])
    # kappa^2 |(x, 1)|^2 W^2 = .3 of the mass: all of the 9 and a fifth of the 4
    w = (0.3 / (2 * KAPPA**2)) ** 0.5
    psi = (9 + 0.2 * 4) / 4
    assert gram_root_modulus(omega, point, w).tolist() == pytest.approx(
        3 * [2**0.5 * (w + psi**0.5)]
    )
    # beyond a mass of 1 it is the whole second moment
    everything = (9 + 4 + 1 + 0.25) / 4
    distances = torch.tensor([2.0, 3.0, 4.0], dtype=DOUBLE)
    found = gram_root_modulus(omega, point, distances)
    assert found.tolist() == pytest.approx([2**0.5 * (v + everything**0.5) for v in (2, 3, 4)])


def test_the_root_modulus_refuses_what_does_not_fit():
    _, omega = particles()
    with pytest.raises(ValueError, match="omega"):
        gram_root_modulus(omega, X[:, :2], 0.1)
    with pytest.raises(ValueError, match="w"):
        gram_root_modulus(omega, X, -0.1)


def test_sensitivity_equals_the_gradient_in_w2():
    theta, _ = particles()
    square = state_sensitivity(NET, theta, NET.features(theta, X))
    assert square.shape == (4, 3, 3)
    for i in range(4):
        _, slope = worst_direction(lambda t, i=i: NET.features(t, X).X[-1, i], theta, axes=2)
        torch.testing.assert_close(torch.linalg.eigvalsh(square[i])[-1].sqrt(), slope)


def test_sensitivity_in_batches_equals_one_by_one():
    theta, _ = particles(batch=(2,))
    both = state_sensitivity(NET, theta, NET.features(theta, X))
    torch.testing.assert_close(both[1], state_sensitivity(NET, theta[1], NET.features(theta[1], X)))


@pytest.mark.parametrize("w", [1e-3, 0.1, 0.5])
def test_states_and_adjoints_stay_below_the_bounds_in_every_layer(w):
    theta, omega = particles(batch=(8,))
    before = NET.backward(theta, omega, X, Y)
    state, costate = gronwall_bounds(NET, theta, omega, X, w)
    assert state.shape == costate.shape == (8, 4)
    directions = [worst_direction(lambda t: NET.features(t, X).X[:, -1].sum(-2), theta, 2)[0]]
    directions += [randn(*theta.shape, seed=s) for s in range(3)]
    for v in directions:
        v = v / displacement_norm(v, 2)[:, None, None, None]
        after = NET.backward(theta + w * v, omega, X, Y)
        dz = (after.trajectory.X - before.trajectory.X).norm(dim=-1).amax(-2)
        dp = (after.adjoint.p - before.adjoint.p).norm(dim=-1).amax(-2)
        assert (dz <= state).all() and (dp <= costate).all()


def attained(w=1e-3, alpha=1e-3, head=1e-2):
    """Silent neurons with large output weights: nothing is lost to first order."""
    net = ScaledResNet(2, "tanh", alpha=alpha)
    theta = torch.tensor([[[20.0, 0, 0, 0, 0]]], dtype=DOUBLE)
    omega = torch.tensor([[1.0, head, 0, 0]], dtype=DOUBLE)
    x = torch.tensor([[1.0, 0]], dtype=DOUBLE)
    return net, theta, omega, x, w


def test_the_bounds_are_attained_in_a_limit():
    net, theta, omega, x, w = attained()
    state, costate = gronwall_bounds(net, theta, omega, x, w)
    y = torch.zeros(1, dtype=DOUBLE)
    v, slope = worst_direction(lambda t: net.features(t, x).X[-1, 0], theta, 2)
    assert float(slope * w / state) == pytest.approx(1, abs=0.03)
    v, slope = worst_direction(lambda t: net.backward(t, omega, x, y).adjoint.p[0, 0], theta, 2)
    assert float(slope * w / costate) == pytest.approx(1, abs=0.05)
    assert float(slope * w) <= float(costate)


def test_the_head_s_curvature_is_attained_by_a_steep_head():
    net, theta, _, x, w = attained()
    steep = 200.0  # and a bias that puts the head where tanh bends most
    omega = torch.tensor([[1.0, steep, 0, math.atanh(1 / math.sqrt(3)) - steep]], dtype=DOUBLE)
    y = torch.zeros(1, dtype=DOUBLE)
    _, slope = worst_direction(lambda t: net.backward(t, omega, x, y).adjoint.p[0, 0], theta, 2)
    _, costate = gronwall_bounds(net, theta, omega, x, 1e-9)
    assert float(slope * 1e-9 / costate) == pytest.approx(1, abs=0.03)


def test_the_bounds_by_hand_for_one_particle():
    net = ScaledResNet(2, "tanh", alpha=0.5)
    theta = torch.tensor([[[3.0, 4, 0, 2, 7]], [[0, 1, 2, 0, 7]]], dtype=DOUBLE)  # |u| 5, 1; |w| 2
    omega = torch.tensor([[-2.0, 0, 3, 1]], dtype=DOUBLE)
    x, w = torch.tensor([[0.6, 0.8]], dtype=DOUBLE), 0.1
    growth = 0.5 * (5 * 2 + 1 * 2) / 2
    r = math.sqrt(1 + (1 + 0.5 * 3 + 0.5 * w) ** 2)
    state = math.exp(growth) * 0.5 * math.sqrt(1 + r**2 * (25 + 1) / 2) * w
    H = math.sqrt(((KAPPA * r * 10 + 7) ** 2 + (KAPPA * r * 2 + 3) ** 2) / 2)
    h = math.sqrt((7**2 + 3**2) / 2)
    bend = KAPPA * (5 * 4 + 1 * 4) / 2 * state + H * w + w**2 / 2
    costate = KAPPA * 2 * 9 * state + 0.5 * 6 * math.exp(growth) * bend
    costate = math.exp(growth + 0.5 * h * w + 0.25 * w**2) * costate
    bounds = gronwall_bounds(net, theta, omega, x, w)
    assert [float(b) for b in bounds] == pytest.approx([state, costate], rel=1e-12)


def test_bounds_grow_with_scale_and_distance_and_vanish_with_them():
    theta, omega = particles()
    small = gronwall_bounds(NET, theta, omega, X, 0.0)
    assert small[0].abs().max() == 0 and small[1].abs().max() == 0
    near, far = (gronwall_bounds(NET, theta, omega, X, w) for w in (0.1, 0.2))
    assert all((a < b).all() for a, b in zip(near, far, strict=True))


def test_wrong_arguments_are_named():
    theta, omega = particles()
    with pytest.raises(ValueError, match="theta: last dimension"):
        gronwall_bounds(NET, theta[..., :4], omega, X, 0.1)
    with pytest.raises(ValueError, match="omega: last dimension"):
        gronwall_bounds(NET, theta, omega[..., :4], X, 0.1)
    for w in (-0.1, math.nan, torch.tensor([0.1, -0.1])):
        with pytest.raises(ValueError, match="w: expected .*finite"):
            gronwall_bounds(NET, theta, omega, X, w)
        with pytest.raises(ValueError, match="w: expected .*finite"):
            gram_modulus(omega, w)
