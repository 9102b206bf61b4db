r"""The stability estimate of the mean-field ODE, with its constants written out.

For laws :math:`\rho, \nu` of mass 1 over :math:`(\theta, t)` and one input,

.. math::

    X_\rho(t) - X_\nu(t)
        = \int_{s \le t} \Phi(t, s)\, f(X_\rho(s), \theta)\, d(\rho - \nu)(\theta, s),
    \qquad \|\Phi(t, s)\| \le e^\Lambda,

with :math:`\Phi` the propagator of the field of :math:`\nu`, its Jacobian averaged along the
segment between the two states. At t = 1 the integrand is Lipschitz in
:math:`(\theta, s)`, hence a bound by :math:`W_1` (lu2020, eq. (4), where the constant is
not given); at t < 1 it jumps at s = t, hence one more term.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..blocks import MatrixBlock
from ..measures import LayeredMeasure
from ..ode import flow

__all__ = ["Stability", "stability"]


@dataclass(frozen=True)
class Stability:
    r"""The difference of two flows and the quantities that bound it, on T equal steps.

    Attributes
    ----------
    gap : Tensor
        :math:`\|X_\rho(x_i, t) - X_\nu(x_i, t)\|`, shape (..., T+1, n).
    reach : Tensor
        :math:`K(t)`, the Lipschitz constant of :math:`f(X_\rho(t), \cdot)`: the norm of the
        state *reached*, times the largest slope of the activation; shape (..., T+1, n).
    speed : Tensor
        :math:`G(t)`, the largest :math:`\|f(X_\rho(t), \theta)\|` over both laws' particles,
        shape (..., T+1, n).
    lipschitz : Tensor
        :math:`\Lambda`, the largest operator norm over the particles of :math:`\nu`, times
        that slope; shape (...).
    density : Tensor
        :math:`\bar m_\rho, \bar m_\nu`, the largest densities of the depth marginals,
        shape (..., 2).
    """

    gap: Tensor
    reach: Tensor
    speed: Tensor
    lipschitz: Tensor
    density: Tensor

    def constant(self) -> Tensor:
        r"""Return C with :math:`\|X_\rho(x_i, 1) - X_\nu(x_i, 1)\| \le C\, W_1`, shape (..., n).

        .. math::

            C = e^\Lambda \sqrt{K^2 + \big(\Lambda G (\bar m_\rho + \bar m_\nu)\big)^2}

        with K and G the suprema over depth.
        """
        growth, density = self.lipschitz.unsqueeze(-1), self.density.sum(-1, keepdim=True)
        along = growth * self.speed.amax(-2) * density
        return growth.exp() * (self.reach.amax(-2) ** 2 + along**2).sqrt()

    def layerwise(self, distance: Tensor, reach: Tensor | None = None) -> Tensor:
        r"""Return :math:`\int_0^1 e^{\Lambda(1-t)} K(t)\, W_1(\rho(\cdot,t), \nu(\cdot,t))\, dt`.

        It bounds the gap at depth 1 when both depth marginals are uniform.

        Parameters
        ----------
        distance : Tensor
            :math:`W_1` layer by layer, shape (..., L), with 2 L a divisor of T.
        reach : Tensor, optional
            Another K(t), broadcastable to (..., T+1, n).

        Returns
        -------
        Tensor
            Shape (..., n), by Simpson's rule on the T steps.

        Raises
        ------
        ValueError
            If the layers do not fit the steps.
        """
        steps, layers = self.gap.shape[-2] - 1, require_tensor("distance", distance, 1).shape[-1]
        if steps % (2 * layers):
            raise ValueError(f"distance: 2 L = {2 * layers} does not divide the {steps} steps")
        t = torch.linspace(0, 1, steps + 1, dtype=self.gap.dtype)
        growth = torch.exp(self.lipschitz.unsqueeze(-1) * (1 - t)).unsqueeze(-1)
        value = growth * (self.reach if reach is None else reach)
        # by hand: SciPy's rule takes no gradient, and the distance jumps from layer to layer
        left, middle, right = value[..., :-1:2, :], value[..., 1::2, :], value[..., 2::2, :]
        pairs = (left + 4 * middle + right) / (3 * steps)
        wide = distance.repeat_interleave(steps // (2 * layers), -1)
        return (pairs * wide.unsqueeze(-1)).sum(-2)

    def crossing(self, distance: Tensor) -> Tensor:
        r"""Return :math:`4^{1/3}\, G(t)\, (\bar m\, W_2)^{2/3}`, shape (..., T+1, n).

        It bounds what the mass costs that an optimal coupling carries across depth t,
        with :math:`\bar m = \max(\bar m_\rho, \bar m_\nu)`.

        Parameters
        ----------
        distance : Tensor
            :math:`W_2`, shape (...).
        """
        carried = 4 ** (1 / 3) * (self.density.amax(-1) * distance) ** (2 / 3)
        return self.speed * carried[..., None, None]

    def hoelder(self, distance: Tensor) -> Tensor:
        r"""Return the bound of the gap at every depth, shape (..., T+1, n).

        .. math::

            C\, W_2 + 4^{1/3}\, G(t)\, (\bar m\, W_2)^{2/3}

        Parameters
        ----------
        distance : Tensor
            :math:`W_2`, shape (...).
        """
        smooth = self.constant() * distance.unsqueeze(-1)
        return smooth.unsqueeze(-2) + self.crossing(distance)


def stability(
    block: MatrixBlock,
    rho: LayeredMeasure,
    nu: LayeredMeasure,
    x: Tensor,
    steps: int,
    slope: float = 1.0,
) -> Stability:
    r"""Return the gap between two flows and the constants of the estimate.

    Parameters
    ----------
    block : MatrixBlock
        The block :math:`\sigma(\theta x)`.
    rho, nu : LayeredMeasure
        Laws of total mass 1.
    x : Tensor
        Inputs, shape (..., n, d).
    steps : int
        The number T of Runge-Kutta steps, a multiple of both numbers of layers. The
        suprema over depth are taken on their grid.
    slope : float
        A bound of :math:`|\sigma'|`: 1 for tanh and linear, 1/4 for the sigmoid.

    Returns
    -------
    Stability

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or a law has another mass than 1.
    """
    require_instance("block", block, MatrixBlock)
    require_instance("rho", rho, LayeredMeasure)
    require_instance("nu", nu, LayeredMeasure)
    require_positive_int("steps", steps)
    require_tensor("x", x, 2, last=block.d)
    require_number("slope", slope, above=0)
    require_broadcast(x=x.shape[:-2], rho=rho.theta.shape[:-3], nu=nu.theta.shape[:-3])
    require_alike(x=x, rho=rho.theta, nu=nu.theta)
    for name, law in (("rho", rho), ("nu", nu)):
        if law.theta.shape[-1] != block.k:
            raise ValueError(
                f"{name}: particles of size {law.theta.shape[-1]}, expected k = {block.k}"
            )
    for name, law in (("rho", rho), ("nu", nu)):
        total = law.depth_density.mean(-1)
        if not torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-9):
            raise ValueError(f"{name}: total mass is not 1; the mean of depth_density must be")
    X, Y = (flow(block, law, x, steps, "rk4").X for law in (rho, nu))
    speed = torch.zeros((), dtype=x.dtype)
    for theta in (*rho.theta.unbind(-3), *nu.theta.unbind(-3)):  # layer by layer: memory
        values = block.value(X, theta.unsqueeze(-3))
        speed = torch.maximum(speed, values.norm(dim=-1).amax(-1))
    norms = torch.linalg.matrix_norm(nu.theta.unflatten(-1, (block.d, block.d)), 2)
    density = [law.depth_density.amax(-1) for law in (rho, nu)]
    return Stability(
        (X - Y).norm(dim=-1),
        slope * X.norm(dim=-1),
        speed,
        slope * norms.amax((-1, -2)),
        torch.stack(torch.broadcast_tensors(*density), -1),
    )
