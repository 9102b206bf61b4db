"""What the activation's operator sees: harmonics, parity, the linear programme."""

import math
from fractions import Fraction

import pytest
import torch
from problems import DOUBLE, generator, randn
from scipy.special import eval_chebyt, eval_legendre, iv

from mflib.activations import Activation
from mflib.teacher_student.activation_operator import (
    gegenbauer,
    off_teacher_mass,
    relu_moment,
    sphere_eigenvalue,
    sphere_rule,
    visible_part,
)

EXP = Activation("exp", torch.exp, torch.exp, torch.exp)
PLACES = torch.tensor([0.4, 0.9, 1.5, 2.4], dtype=DOUBLE)
SIDES = torch.cat([torch.linspace(0.1, 6, 40), -torch.linspace(0.1, 6, 40)]).double()


@pytest.mark.parametrize(("dim", "library"), [(2, eval_chebyt), (3, eval_legendre)])
def test_the_polynomials_are_those_of_the_library(dim, library):
    t = torch.linspace(-1, 1, 11, dtype=DOUBLE)
    for k in range(8):
        assert torch.allclose(gegenbauer(k, dim, t), torch.as_tensor(library(k, t.numpy())))


def test_relu_on_the_circle_has_the_eigenvalues_known_by_hand():
    for k in range(10):
        exact = {0: 2.0, 1: math.pi / 2}.get(k, 0.0)
        if k >= 2 and k % 2 == 0:
            exact = 2 * (-1) ** (k // 2 + 1) / (k * k - 1)
        assert abs(sphere_eigenvalue("relu", k, 2) - exact) < 1e-13


def test_the_exponential_on_the_circle_has_bessel_functions():
    for k in range(6):
        assert abs(sphere_eigenvalue(EXP, k, 2) - 2 * math.pi * iv(k, 1.0)) < 1e-13


def test_exact_moments_are_those_of_quadrature():
    for dim, area in ((3, 2 * math.pi), (5, 2 * math.pi**2)):
        for k in range(8):
            exact = area * float(relu_moment(k, dim))
            assert abs(sphere_eigenvalue("relu", k, dim) - exact) < 1e-12
    assert relu_moment(3, 3) == 0 and relu_moment(7, 5) == 0
    assert relu_moment(2, 3) == Fraction(1, 8)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_rule_is_antipodal_and_integrates_polynomials(dim):
    at, w = sphere_rule(dim)
    assert torch.allclose(w.sum(), w.new_ones(()))
    assert torch.allclose(at.norm(dim=-1), torch.ones_like(w))
    second = torch.einsum("i,ij,ik->jk", w, at, at)
    assert torch.allclose(second, torch.eye(dim, dtype=DOUBLE) / dim, atol=1e-14)
    gap = (at[:, None] + at).norm(dim=-1).min(-1).values
    assert gap.max() < 1e-12
    axis = torch.nn.functional.normalize(randn(dim), dim=0)
    for k in range(1, 9):
        assert abs((w * gegenbauer(k, dim, at @ axis)).sum()) < 1e-13


@pytest.mark.parametrize(("sigma", "part"), [("gaussian", 0), ("tanh", 1), ("sigmoid", 1)])
def test_the_visible_part_is_read_back_and_the_other_is_zero(sigma, part):
    parts = torch.randn(2, 3, 4, generator=generator(), dtype=DOUBLE)
    even = parts[0] - parts[0].mean(-1, keepdim=True)
    odd = parts[1]
    f = __import__("mflib.activations", fromlist=["activation"]).activation(sigma).f
    z = torch.outer(SIDES, PLACES)
    out = (even + odd) @ f(z).mT + (even - odd) @ f(-z).mT
    found = visible_part(sigma, PLACES, SIDES, out)
    assert torch.allclose(found[part], (even, odd)[part], atol=1e-9)
    assert found[1 - part].abs().max() < 1e-9


def test_a_student_of_small_loss_has_little_mass_off_one_tanh_neuron_and_all_off_relu():
    x = torch.linspace(-4, 4, 61, dtype=DOUBLE)
    grid = torch.linspace(-3, 3, 121, dtype=DOUBLE)
    atom, sure = torch.tensor([1.2], dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    values = [off_teacher_mass("tanh", x, grid, atom, sure, t) for t in (1e-5, 1e-6)]
    assert values[0] < 0.5 and 8 < values[0] / values[1] < 12
    assert off_teacher_mass("relu", x, grid, atom, sure, 1e-6) > 1 - 1e-9
    alone = off_teacher_mass("gaussian", x, grid, atom, sure, 1e-6)
    assert alone > 0.99 > 0.1 > off_teacher_mass("gaussian", x, grid, atom, sure, 1e-6, True)


def test_impossible_arguments_are_named():
    with pytest.raises(ValueError, match="dim"):
        sphere_rule(4)
    with pytest.raises(ValueError, match="dim"):
        relu_moment(3, 4)
    with pytest.raises(ValueError, match="degree"):
        sphere_eigenvalue("relu", -1, 3)
    with pytest.raises(ValueError, match="tolerance"):
        off_teacher_mass("relu", SIDES, PLACES, PLACES[:1], PLACES[:1], 0.0)
