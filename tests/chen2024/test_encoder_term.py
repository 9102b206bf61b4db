import pytest
import torch
from problems import generator, randn
from torchdiffeq import odeint

from mflib.chen2024.encoder_term import encoder_difference, encoder_term
from mflib.rademacher import random_signs


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(randn(n, d, seed=seed), dim=-1)


def test_the_encoder_term_tends_to_twice_the_radius_times_the_norm():
    x, head, encoder = sphere(6, 2), randn(150, 3, seed=2), randn(150, 3, seed=3)
    signs = random_signs(6, 3, generator(4))
    found = encoder_term(signs, x, encoder, head, radius=1e-7, power=2000)
    slope = 1 - torch.tanh(x @ head[:, :2].T + head[:, 2]) ** 2
    value = torch.tanh(x @ encoder[:, :2].T + encoder[:, 2])
    for epsilon, norm, top in zip(signs, found.norm, found.value, strict=True):
        # the operator as a matrix (M) x (M d), masses 1/M on both sides
        operator = torch.einsum("i,ip,pk,iq->pqk", epsilon / 6, slope, head[:, :2], value)
        exact = torch.linalg.matrix_norm(operator.flatten(1) / 150, 2)
        torch.testing.assert_close(norm, exact, rtol=1e-6, atol=0)
        torch.testing.assert_close(top / 2e-7, exact, rtol=1e-4, atol=0)


def test_the_true_network_agrees_with_the_bilinear_form_for_small_balls():
    x, head, encoder = sphere(8, 3), randn(200, 4, seed=2), randn(200, 4, seed=3)
    signs = random_signs(8, 2, generator(4))
    found = encoder_term(signs, x, encoder, head, radius=1e-6)
    moved = encoder_difference(x, encoder, head, found.u, found.a)
    torch.testing.assert_close((signs * moved).mean(1), found.value, rtol=2e-3, atol=0)


def test_the_encoder_difference_equals_another_solver():
    x, head, encoder = sphere(5, 2), randn(30, 3, seed=2), randn(30, 3, seed=3)
    a, u = 0.1 * randn(2, 30, seed=4), 0.1 * randn(2, 30, 2, seed=5)

    def field(_, z):
        return 1.7 * (torch.tanh(z @ encoder[:, :2].T + encoder[:, 2]) @ u)

    def output(z):
        return (torch.tanh(z @ head[:, :2].T + head[:, 2]) @ a[..., None])[..., 0]

    start = x.expand(2, 5, 2)
    end = odeint(field, start, torch.tensor([0.0, 1.0]).double(), rtol=1e-10, atol=1e-12)[-1]
    ours = encoder_difference(x, encoder, head, u, a, alpha=1.7, steps=32)
    torch.testing.assert_close(ours, output(end) - output(start), rtol=1e-6, atol=1e-9)


def test_sweeps_never_lower_the_encoder_term():
    x, head, encoder = sphere(8, 2), randn(90, 3, seed=2), randn(90, 3, seed=3)
    signs = random_signs(8, 5, generator(4))
    values = [
        encoder_term(signs, x, encoder, head, radius=0.3, sweeps=k).value for k in (1, 2, 4, 8)
    ]
    for low, high in zip(values, values[1:], strict=False):
        assert (high >= low * (1 - 1e-12)).all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="signs: last dimension"):
        encoder_term(randn(2, 3), randn(4, 2), randn(9, 3), randn(9, 3), 0.1)
