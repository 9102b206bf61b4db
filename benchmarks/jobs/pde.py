"""Finite volumes for the mean-field equation of a two-layer network in one dimension.

All step the same explicit upwind scheme of first order by Euler's method, from the same law,
with the same tanh neurons at the same inputs. ``FiPy`` assembles its convection term and solves
a system in each step; ``py-pde, NumPy`` writes the velocity and the flux with its operators;
``py-pde, numba`` is the same right-hand side compiled as a whole, its compilation not counted.
With ``problems`` several equations are wanted, which the peers solve one after the other.
"""

from __future__ import annotations

import numpy as np
import torch

from mflib.teacher_student.finite_volume import FiniteVolume
from mflib.teacher_student.ridge import RidgeBlock
from mflib.teacher_student.two_layer import TwoLayer

from ..harness import Case, optional

SIZES = [(400, 1), (4000, 1), (400, 16)]
TOY = [(40, 2)]
STEPS, REACH = 40, 3.0


def draw(cells, problems):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(problems, 20, 1, generator=g, dtype=torch.float64)
    teacher = torch.tensor([[1.4], [-0.9]], dtype=torch.float64)
    law = TwoLayer.taught(RidgeBlock(1), x, teacher, torch.tensor([0.3, 0.7]).double())
    grid = FiniteVolume(law, -REACH, REACH, cells, order=1)
    lean = torch.randn(problems, 1, generator=g, dtype=torch.float64)
    rho = torch.exp(-((grid.centres - 0.3 * lean) ** 2))
    return grid, rho / (rho.sum(-1, keepdim=True) * grid.width)


def parts(grid, rho):
    """Return of each problem what a peer needs, as arrays; neurons from NumPy."""
    centres = grid.centres.numpy()
    return [
        (np.tanh(x.numpy() * centres), y.numpy(), start.numpy())
        for x, y, start in zip(grid.law.x, grid.law.y, rho, strict=True)
    ]


def by_fipy(grid, rho, dt):
    if optional("fipy") is None:
        return None
    from fipy import (
        CellVariable,
        ExplicitUpwindConvectionTerm,
        FaceVariable,
        Grid1D,
        TransientTerm,
    )

    problems, h = parts(grid, rho), grid.width
    mesh = Grid1D(nx=grid.cells, dx=h)

    def one(neurons, y, start):
        cells, speed = CellVariable(mesh=mesh, value=start), FaceVariable(mesh=mesh, rank=1)
        equation = TransientTerm() + ExplicitUpwindConvectionTerm(coeff=speed) == 0
        for _ in range(STEPS):
            phi = (neurons @ (cells.value * h) - y) / len(y) @ neurons
            speed.setValue(np.pad(-np.diff(phi) / h, 1)[None])
            equation.solve(var=cells, dt=dt)
        return cells.value.copy()

    return lambda: np.stack([one(*problem) for problem in problems])


def equation(pde, neurons, y, h):
    """Return the equation of one problem for py-pde: its operators, taken one-sided."""
    nothing, flat = {"virtual_point": 0}, {"derivative": 0}

    class MeanField(pde.PDEBase):
        def evolution_rate(self, state, t=0):
            phi = (neurons @ (state.data * h) - y) / len(y) @ neurons
            slope = pde.ScalarField(state.grid, phi).gradient(flat, method="forward")
            ahead = state.data + h * state.gradient(flat, method="forward").data[0]
            flux = -slope.data[0] * np.where(slope.data[0] < 0, state.data, ahead)
            rate = pde.ScalarField(state.grid, flux).gradient(nothing, method="backward")
            return pde.ScalarField(state.grid, -rate.data[0])

        def make_pde_rhs_numba(self, state):
            from pde.backends import backends
            from pde.backends.numba.utils import jit

            def operator(bc, method):  # grid.make_operator would drop the method
                bcs = state.grid.get_boundary_conditions(bc, rank=0)
                return backends["numba"].make_operator(
                    state.grid, "gradient", bcs=bcs, method=method
                )

            forward, backward = operator(flat, "forward"), operator(nothing, "backward")
            turned, count = np.ascontiguousarray(neurons.T), len(y)

            @jit
            def rate(rho, t):
                phi = np.dot(turned, (np.dot(neurons, rho * h) - y) / count)
                slope, ahead = forward(phi)[0], rho + h * forward(rho)[0]
                return -backward(-slope * np.where(slope < 0, rho, ahead))[0]

            return rate

    return MeanField()


def by_pypde(grid, rho, dt, backend):
    pde = optional("pde")
    if pde is None or (backend == "numba" and optional("numba") is None):
        return None
    line = pde.CartesianGrid([[grid.low, grid.high]], grid.cells)
    problems = []
    for neurons, y, start in parts(grid, rho):
        solver = pde.EulerSolver(equation(pde, neurons, y, grid.width), backend=backend)
        step = solver.make_stepper(pde.ScalarField(line, start), dt)
        problems.append((step, start))

    def run():
        ends = []
        for step, start in problems:
            state = pde.ScalarField(line, start)
            step(state, 0.0, STEPS * dt)
            ends.append(state.data)
        return np.stack(ends)

    return run


def case(size):
    cells, problems = size
    grid, rho = draw(*size)
    dt = 0.4 * grid.width

    def mass():
        found = grid.run(rho, STEPS * dt, STEPS)
        return {"change of the mass": (float((found.mass - 1.0).abs().max()), 1e-14)}

    return Case(
        f"m={cells} problems={problems}",
        lambda: grid.run(rho, STEPS * dt, STEPS).rho,
        {
            "FiPy": by_fipy(grid, rho, dt),
            "py-pde, NumPy": by_pypde(grid, rho, dt, "numpy"),
            "py-pde, numba": by_pypde(grid, rho, dt, "numba"),
        },
        tolerance=1e-11,
        bounds=mass,
        goals={"FiPy": 50.0, "py-pde, NumPy": 10.0, "py-pde, numba": 10.0},
    )


def cases(toy):
    return [lambda size=size: case(size) for size in (TOY if toy else SIZES)]


def exponents(toy):
    from ..harness import exponent

    sizes = [20, 40, 80] if toy else [4000, 8000, 16000]
    jobs = []
    for cells in sizes:
        grid, rho = draw(cells, 1)
        jobs.append(lambda grid=grid, rho=rho: grid.run(rho, 0.1 * grid.width, STEPS))
    for job in jobs:
        job()
    return {"m": exponent(sizes, jobs)}
