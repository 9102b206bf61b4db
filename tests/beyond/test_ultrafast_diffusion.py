import math

import pytest
import torch
from problems import DOUBLE, generator

from mflib.beyond.ultrafast_diffusion import fourier_derivative, relax, relaxation_rates

AT = torch.arange(33, dtype=DOUBLE) / 33


def density(seed: int, batch: int = 3) -> torch.Tensor:
    """Positive densities without symmetry: two waves of random phases and sizes."""
    draw = torch.rand(4, batch, 1, generator=generator(seed), dtype=DOUBLE)
    one = 0.4 * draw[0] * torch.cos(2 * math.pi * (AT + draw[1]))
    return 1 + one + 0.4 * draw[2] * torch.cos(4 * math.pi * (AT + draw[3]))


def test_the_derivative_is_exact_for_polynomials_and_skew():
    k = torch.arange(1, 17, dtype=DOUBLE)[:, None] * 2 * math.pi
    torch.testing.assert_close(
        fourier_derivative(torch.sin(k * AT)), k * torch.cos(k * AT), rtol=0, atol=1e-9
    )
    matrix = fourier_derivative(torch.eye(33, dtype=DOUBLE))
    torch.testing.assert_close(matrix, -matrix.mT, rtol=0, atol=1e-10)


def test_the_rates_of_the_uniform_teacher_are_those_of_the_torus():
    rates = relaxation_rates(torch.ones(33, dtype=DOUBLE))[:5] / (2 * math.pi) ** 2
    torch.testing.assert_close(
        rates, torch.tensor([0.0, 1, 1, 4, 4], dtype=DOUBLE), rtol=0, atol=1e-9
    )


def test_the_gap_agrees_with_finite_volumes_of_order_two():
    gap = relaxation_rates(density(1))[:, 1]
    off = []
    for cells in (200, 400):
        at = torch.arange(cells, dtype=DOUBLE) / cells
        draw = torch.rand(4, 3, 1, generator=generator(1), dtype=DOUBLE)

        def nu(x, draw=draw):
            one = 0.4 * draw[0] * torch.cos(2 * math.pi * (x + draw[1]))
            return 1 + one + 0.4 * draw[2] * torch.cos(4 * math.pi * (x + draw[3]))

        step = torch.eye(cells, dtype=DOUBLE)
        step = (step.roll(1, 1) - step) * cells  # from cells to faces
        stiff = step.mT @ (nu(at + 0.5 / cells)[..., None] * step)
        root = nu(at).rsqrt()
        values = torch.linalg.eigvalsh(root[..., None] * stiff * root[:, None])
        off.append((values[:, 1] - gap).abs())
    assert (off[1] < 1e-3 * gap).all()
    torch.testing.assert_close(
        off[0] / off[1], torch.full((3,), 4.0, dtype=DOUBLE), rtol=0.02, atol=0
    )


def test_a_small_wave_on_the_uniform_teacher_decays_like_heat():
    nu = torch.ones(1, 33, dtype=DOUBLE)
    errors = []
    for size in (1e-2, 1e-3):
        end = relax(1 + size * torch.cos(2 * math.pi * AT)[None], nu, 0.02)
        exact = math.exp(-0.02 * (2 * math.pi) ** 2) * torch.cos(2 * math.pi * AT)
        errors.append(float(((end - 1) / size - exact).abs().max()))
    assert errors[1] < 1e-3 and errors[0] / errors[1] == pytest.approx(10, rel=0.2)


def test_mass_is_kept_the_ratio_contracts_and_the_equation_holds():
    mu, nu = density(2), density(3)
    end = relax(mu, nu, 0.01)
    torch.testing.assert_close(end.mean(-1), torch.ones(3, dtype=DOUBLE), rtol=0, atol=1e-12)
    assert ((nu / end).amax(-1) < (nu / mu).amax(-1)).all()
    assert ((nu / end).amin(-1) > (nu / mu).amin(-1)).all()
    h = 1e-5
    change = (relax(end, nu, 2 * h) - end) / (2 * h)
    mid = relax(end, nu, h)  # the other form, -1/2 (mu ((nu/mu)^2)')'
    other = -0.5 * fourier_derivative(mid * fourier_derivative((nu / mid) ** 2))
    assert (change - other).abs().max() < 2e-3 * change.abs().max()
    two = relax(relax(mu, nu, 0.004), nu, 0.006)
    torch.testing.assert_close(two, end, rtol=0, atol=1e-7)


def test_moving_both_laws_along_the_torus_moves_the_answer():
    mu, nu = density(4), density(5)
    moved = relax(mu.roll(7, -1), nu.roll(7, -1), 0.01)
    torch.testing.assert_close(moved, relax(mu, nu, 0.01).roll(7, -1), rtol=0, atol=1e-12)
    assert not torch.allclose(density(4), density(6))


@pytest.mark.parametrize(
    ("mu", "word"),
    [
        (torch.ones(4, dtype=DOUBLE), "mu: 4 nodes"),
        (torch.tensor([2.0, 2.0, -1.0]).double(), "mu: a density must be positive"),
        (torch.full((3,), 2.0).double(), "mu: the mean"),
        (torch.full((3,), math.nan).double(), "mu: holds NaN"),
    ],
)
def test_what_is_no_density_is_refused(mu, word):
    with pytest.raises(ValueError, match=word):
        relax(mu, torch.ones(3, dtype=DOUBLE), 0.1)


def test_impossible_arguments_are_refused():
    one = torch.ones(3, dtype=DOUBLE)
    with pytest.raises(ValueError, match="time: "):
        relax(one, one, -1.0)
    with pytest.raises(ValueError, match="nu: "):
        relaxation_rates(2 * one)
    with pytest.raises(ValueError, match="values: 4 nodes"):
        fourier_derivative(torch.ones(4))
