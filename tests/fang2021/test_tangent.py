"""The Gram matrix of the output, Picard's iterates, and stochastic steps."""

from dataclasses import replace

import pytest
import torch
from fang2021.networks import generator, network, weights

from mflib.fang2021.connections import Dense
from mflib.fang2021.initialisation import algorithm_two, feature_gram
from mflib.fang2021.picard import WeightSpace, grid, picard
from mflib.fang2021.tangent import tangent_gram


def test_the_output_moves_by_the_gram_matrix_times_the_costates():
    net = network()
    mass = torch.rand(7, generator=generator(1), dtype=torch.float64)
    w = weights(net, mass=mass / mass.sum())
    f = net.forward(w)
    c = net.backward(w, f)
    drift = net.feature_drift(w, f, net.drift(f, c)).output
    gram = tangent_gram(net, w, f)
    torch.testing.assert_close((gram @ c.output.unsqueeze(-1)).squeeze(-1) / 3, drift)
    rest = gram - feature_gram(net.h1.f(f.beta[-1]), w.mass)
    assert torch.linalg.eigvalsh(rest).min() > -1e-13


def test_the_gradient_in_scaled_coordinates_is_autograds():
    net = network(depth=3)
    space = WeightSpace(net, 5)
    u = space.vector(weights(net, m=5)).requires_grad_()
    (exact,) = torch.autograd.grad(net.risk(net.forward(space.weights(u))).sum(), u)
    torch.testing.assert_close(space.gradient(u.detach()), exact)
    torch.testing.assert_close(space.vector(space.weights(u.detach())), u.detach())


def test_the_curvature_is_the_norm_of_the_hessian():
    net = network(depth=2)
    space = WeightSpace(net, 3)
    u = space.vector(weights(net, m=3))
    sizes, directions = space.curvature(u)
    assert len(u) > 1 and sizes[0] != sizes[1]
    for each, size, direction in zip(u, sizes, directions, strict=True):
        hessian = torch.func.jacfwd(space.gradient)(each)
        torch.testing.assert_close(size, torch.linalg.matrix_norm(hessian, 2), rtol=1e-10, atol=0)
        along = hessian @ direction
        torch.testing.assert_close(along, (direction @ along) * direction, atol=1e-10, rtol=0)
        assert abs(direction.norm() - 1) < 1e-12


def test_picard_reaches_the_implicit_solution_from_any_guess():
    net = network(depth=2)
    space = WeightSpace(net, 4)
    u = space.vector(weights(net, m=4, batch=()))
    t, sums = grid(0.5, 21)
    rest, far = u.expand(21, -1), u + t[:, None]
    one, two = (picard(space, u, guess, sums, 30)[-1] for guess in (rest, far))
    torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(one, u - sums @ space.gradient(one))
    assert (sums >= 0).all() and abs(sums[-1].sum() - 0.5) < 1e-14
    with pytest.raises(ValueError, match="at least 2"):
        grid(1.0, 1)


def test_stochastic_steps_average_to_the_full_step_and_follow_their_stream():
    net = network(depth=2, samples=3)
    w, _ = algorithm_two(net, 10, generator())
    w = replace(w, middle=tuple(Dense(v.dense()) for v in w.middle))
    many = [list(net.descend(w, 0.3, 1, torch.tensor([n])))[1][0] for n in range(3)]
    full = list(net.descend(w, 0.3, 1))[1][0]
    mean = torch.stack([v.middle[0].v for v in many]).mean(0)
    torch.testing.assert_close(mean, full.middle[0].v)
    assert (many[0].middle[0].v - many[1].middle[0].v).abs().max() > 0
