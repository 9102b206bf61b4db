import pytest
import torch
from problems import DOUBLE, generator, randn

from mflib.beyond.conditional_transport import conditional_distance, joint_distance
from mflib.measures import LayeredMeasure
from mflib.sampling import gaussian_measure
from mflib.transport import wasserstein


def test_layers_of_one_particle_have_the_distance_of_their_particles():
    a, b = randn(2, 5, 1, 3), randn(2, 5, 1, 3, seed=1)
    found = conditional_distance(LayeredMeasure(a), LayeredMeasure(b))
    torch.testing.assert_close(found, (a - b).square().sum((-1, -2)).mean(-1).sqrt())


def test_the_joint_distance_is_no_larger_and_equal_where_depth_is_too_dear():
    rho, nu = (gaussian_measure(4, 3, 2, generator(s), 2.0, (3,)) for s in (0, 1))
    assert (joint_distance(rho, nu) <= conditional_distance(rho, nu) + 1e-12).all()
    close = LayeredMeasure(rho.theta + 1e-3 * nu.theta)
    torch.testing.assert_close(joint_distance(rho, close), conditional_distance(rho, close))


def test_unequal_masses_count_and_order_within_a_layer_does_not():
    w = torch.rand(4, 3, generator=generator(), dtype=DOUBLE) + 0.1
    w = w / w.sum(-1, keepdim=True)
    rho, nu = LayeredMeasure(randn(4, 3, 2), w), LayeredMeasure(randn(4, 3, 2, seed=1))
    shuffled = LayeredMeasure(rho.theta.flip(-2), w.flip(-1))
    one = conditional_distance(rho, nu)
    torch.testing.assert_close(one, conditional_distance(shuffled, nu))
    each = [wasserstein(rho.theta[k], nu.theta[k], w[k]) for k in range(4)]
    torch.testing.assert_close(one, torch.stack(each).square().mean().sqrt())
    assert not torch.allclose(one, conditional_distance(LayeredMeasure(rho.theta), nu))


@pytest.mark.parametrize("n", [2, 8])
def test_alternating_layers_and_their_swap(n):
    theta = torch.zeros(2 * n, 1, 2, dtype=DOUBLE)
    theta[::2, 0, 0] = 1.0
    rho, swap = LayeredMeasure(theta), LayeredMeasure(theta.flip(0))
    assert float(conditional_distance(rho, swap)) == pytest.approx(1.0)
    assert float(joint_distance(rho, swap)) == pytest.approx(1 / (2 * n))


def test_laws_that_do_not_fit_are_refused():
    rho = gaussian_measure(4, 3, 2, generator())
    with pytest.raises(ValueError, match="nu: 3 layers"):
        conditional_distance(rho, gaussian_measure(3, 3, 2, generator()))
    with pytest.raises(ValueError, match="rho: every layer"):
        joint_distance(LayeredMeasure(rho.theta, 2 * rho.weights), rho)
    with pytest.raises(TypeError, match="nu: expected a LayeredMeasure"):
        joint_distance(rho, rho.theta)
    with pytest.raises(ValueError, match="nu: leading dimensions"):
        joint_distance(rho, gaussian_measure(4, 3, 2, generator(), batch=(2,)))
