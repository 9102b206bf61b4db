"""Finite volumes for the mean-field equation, and the solvable ReLU network."""

import numpy as np
import pytest
import torch
from fipy import CellVariable, ExplicitUpwindConvectionTerm, FaceVariable, Grid1D, TransientTerm
from problems import DOUBLE, generator, randn

from mflib.teacher_student.finite_volume import FiniteVolume
from mflib.teacher_student.relu_moments import expected_loss, final_loss, half_line_moments
from mflib.teacher_student.ridge import RidgeBlock
from mflib.teacher_student.two_layer import TwoLayer, follow


def problem(sigma="tanh", batch=2):
    x = randn(batch, 5, 1)
    atoms = torch.tensor([[1.4], [-0.9]], dtype=DOUBLE)
    w = torch.tensor([0.3, 0.7], dtype=DOUBLE)
    mass = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15], dtype=DOUBLE)
    return TwoLayer.taught(RidgeBlock(1, sigma), x, atoms, w, mass)


def start(grid, lean=0.0):
    t = grid.centres
    rho = torch.exp(-((t - lean) ** 2)) * (1 + 0.3 * torch.sin(3 * t))
    return (rho / (rho.sum() * grid.width)).expand(2, -1)


def test_the_upwind_scheme_is_that_of_fipy():
    """FiPy moves the cells; the velocity comes from autograd, not from the scheme under test."""
    grid, dt, steps = FiniteVolume(problem(), -2.0, 2.0, 60, 1), 0.01, 40
    ours = grid.run(start(grid, 0.4), steps * dt, steps)
    for b in range(2):
        mesh = Grid1D(nx=grid.cells, dx=grid.width)
        rho = CellVariable(mesh=mesh, value=start(grid, 0.4)[b].numpy())
        speed = FaceVariable(mesh=mesh, rank=1)
        equation = TransientTerm() + ExplicitUpwindConvectionTerm(coeff=speed) == 0
        for _ in range(steps):
            cells = torch.tensor(rho.value).expand(2, -1).clone().requires_grad_()
            loss = grid.law.loss(grid.centres[:, None], cells * grid.width)[b]
            phi = torch.autograd.grad(loss, cells)[0][b] / grid.width
            speed.setValue(np.pad(-(phi.diff() / grid.width).numpy(), 1)[None])
            equation.solve(var=rho, dt=dt)
        assert np.abs(rho.value - ours.rho[b].numpy()).max() < 1e-11


@pytest.mark.parametrize("order", [1, 2])
def test_mass_is_kept_density_stays_positive_and_the_energy_falls(order):
    grid = FiniteVolume(problem(), -2.0, 2.0, 80, order)
    run = grid.run(start(grid), 4.0, 400)
    assert run.courant < 0.5
    assert torch.allclose(run.mass, torch.ones_like(run.mass), atol=1e-13)
    assert run.rho.min() >= 0 and (run.loss.diff(dim=-1) <= 0).all()


def test_the_energy_balance_of_the_cells_is_exact():
    grid = FiniteVolume(problem(), -2.0, 2.0, 40, 2)
    rho = start(grid)
    rate, v = grid.rate(rho)
    leaf = rho.clone().requires_grad_()
    (slope,) = torch.autograd.grad(grid.loss(leaf).sum(), leaf)
    assert ((slope * rate).sum(-1) < 0).all()
    grid = FiniteVolume(problem(), -2.0, 2.0, 40, 1)
    rate, v = grid.rate(rho)
    upwind = torch.where(v[:, 1:-1] > 0, rho[:, :-1], rho[:, 1:])
    spent = grid.width * (upwind * v[:, 1:-1] ** 2).sum(-1)
    assert torch.allclose((slope * rate).sum(-1), -spent, rtol=1e-10)


def test_the_speed_is_that_of_the_particles_to_second_order():
    gaps = []
    for cells in (40, 80, 160):
        grid = FiniteVolume(problem(), -2.0, 2.0, cells)
        rho = start(grid)
        law, faces = grid.law, grid.edges[:, None]
        r = law.residual(grid.centres[:, None], rho * grid.width).unsqueeze(-1)
        exact = -law.block.pairing_grad(law.x, faces, r, law.mass).squeeze(-1)
        gaps.append((grid.speed(rho) - exact).abs().max())
        assert torch.equal(grid.speed(rho)[:, 0], exact[:, 0])
    assert 3.8 < gaps[0] / gaps[1] < 4.2 and 3.8 < gaps[1] / gaps[2] < 4.2


def test_the_mean_of_the_cells_moves_as_that_of_particles():
    law = problem()
    grid = FiniteVolume(law, -3.0, 3.0, 600)
    rho = start(grid)
    run = grid.run(rho, 1.0, 600)
    end = follow(
        lambda q: law.velocity(q, rho * grid.width), grid.centres[:, None].expand(2, -1, 1), 1.0, 40
    )
    ours = (run.rho * grid.width * grid.centres).sum(-1)
    assert torch.allclose(ours, (rho * grid.width * end[..., 0]).sum(-1), atol=2e-5)


def test_only_the_neumann_condition_loses_what_flows_out():
    law = TwoLayer(
        RidgeBlock(1, "linear"), torch.ones(1, 1, dtype=DOUBLE), torch.full((1,), 5.0, dtype=DOUBLE)
    )
    for boundary in ("no flux", "neumann"):
        grid = FiniteVolume(law, 0.0, 1.0, 50, 1, boundary)
        rho = (2 * grid.edges**3 - grid.edges**4).diff() / grid.width
        rate, v = grid.rate(rho)
        gone = -(rate.sum() * grid.width)
        assert torch.allclose(
            gone, rho[-1] * v[-1] - rho[0] * v[0] if boundary == "neumann" else gone * 0, atol=1e-12
        )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (dict(cells=0), "cells"),
        (dict(high=-5.0), "high"),
        (dict(order=3), "order"),
        (dict(boundary="wall"), "boundary"),
        (dict(law=TwoLayer(RidgeBlock(2), randn(3, 2), randn(3))), "law"),
    ],
)
def test_impossible_grids_name_the_argument(change, word):
    with pytest.raises(ValueError, match=word):
        FiniteVolume(**(dict(law=problem(), low=-1.0, high=1.0, cells=4) | change))


def test_the_relu_flow_is_the_one_solved_by_hand():
    x = torch.tensor([[1.3], [-0.7], [0.4]], dtype=DOUBLE)
    mass = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    teacher = torch.tensor([[2.0], [-1.8]], dtype=DOUBLE)
    law = TwoLayer.taught(
        RidgeBlock(1, "relu"), x, teacher, torch.tensor([0.7, 0.3], dtype=DOUBLE), mass
    )
    theta = torch.tensor([[0.5], [1.0], [-0.6], [-1.1], [0.9]], dtype=DOUBLE)
    w = torch.tensor([0.3, 0.1, 0.25, 0.15, 0.2], dtype=DOUBLE)
    s = torch.stack(
        [(mass * x[:, 0].clamp(min=0) ** 2).sum(), (mass * (-x[:, 0]).clamp(min=0) ** 2).sum()]
    )
    M, P = half_line_moments(theta, w)
    target = torch.tensor([1.4, 0.54], dtype=DOUBLE)
    assert torch.allclose(P, torch.tensor([0.6, 0.4], dtype=DOUBLE))
    end = follow(lambda q: law.velocity(q, w), theta, 3.0, 40)
    assert torch.allclose(law.loss(end, w), final_loss(M, P, target, s, 3.0), rtol=1e-7)
    assert final_loss(M, P, target, s, 3.0) < 0.8 * law.loss(theta, w)


def test_the_expected_loss_is_that_of_many_draws():
    share = torch.tensor([0.6, 0.4], dtype=DOUBLE)
    mean, target = torch.tensor([1.0, 1.2], dtype=DOUBLE), torch.tensor([0.9, 0.5], dtype=DOUBLE)
    s, N, width = torch.tensor([0.7, 0.2], dtype=DOUBLE), 6, torch.tensor([0.5, 0.3])
    pick = torch.rand(400_000, N, generator=generator(1), dtype=DOUBLE)
    size = torch.rand(400_000, N, generator=generator(2), dtype=DOUBLE) * 2 - 1
    left = pick >= share[0]
    theta = torch.where(left, -(mean[1] + width[1] * size), mean[0] + width[0] * size)
    M, P = half_line_moments(theta.unsqueeze(-1), torch.full_like(theta, 1 / N))
    drawn = final_loss(M, P, target, s, 1.5)
    exact = expected_loss(N, share, mean, width.double() ** 2 / 3, target, s, 1.5)
    assert abs(drawn.mean() - exact) < 4.5 * drawn.std() / 400_000**0.5
