"""The random-sign teacher."""

import math

import pytest
import torch
from problems import generator, randn

from mflib.chen2024.sign_teacher import SignTeacher
from mflib.chen2024.sphere_kernel import Spectrum

SPECTRUM = Spectrum("tanh")


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(randn(n, d, seed=seed), dim=-1)


def test_teacher_labels_equal_their_expectation():
    teacher = SignTeacher.sample(3, generator(), ridges=2, kappa=0.7)
    x, w = sphere(5, 3), randn(400_000, 4, seed=6)
    g = 0.7 / math.sqrt(2) * torch.sign(w @ teacher.directions.T).sum(-1)
    monte_carlo = g @ torch.tanh(w[:, :3] @ x.T + w[:, 3:]) / len(w)
    torch.testing.assert_close(teacher.labels(x, SPECTRUM), monte_carlo, rtol=0, atol=5e-3)
    assert teacher.chi2() == pytest.approx(float(torch.expm1(g**2).mean()), rel=0.01)


def test_the_teachers_moments_are_those_of_its_density_ratio():
    teacher = SignTeacher.sample(3, generator(), ridges=3, kappa=0.4)
    a, w = randn(2_000_000), randn(2_000_000, 4, seed=1)
    g = 0.4 / math.sqrt(3) * torch.sign(w @ teacher.directions.T).sum(-1)
    u = torch.expm1(g * a - 0.5 * g**2)
    assert float(u.square().mean()) == pytest.approx(teacher.chi2(), rel=0.02)
    assert float((u**3).mean()) == pytest.approx(teacher.third(), rel=0.15)


@pytest.mark.parametrize(
    "call",
    [
        lambda: SignTeacher(randn(2, 4)),
        lambda: SignTeacher.sample(3, generator()).labels(sphere(2, 4), SPECTRUM),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()
