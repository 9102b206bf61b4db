r"""The scaled residual network of chen2024: encoder, predictor and training flow.

.. math::

    Z_{l+1} = Z_l + \frac{\alpha}{ML} \sum_{m=1}^M u_{l,m}\,
        \sigma_0(w_{l,m}\cdot Z_l + b_{l,m}),
    \qquad
    f(x) = \frac{\beta}{K} \sum_{k=1}^K a_k\, \sigma_0(w_k \cdot Z_L + b_k).

Letters as in the paper: depth is s, training time is t, :math:`\nu` is the law of the
encoder's particles :math:`\theta`, :math:`\tau` that of the predictor's :math:`\omega`.
The formulas of the paper were not at hand; they are rebuilt here from its prose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..activations import Activation
from ..arguments import require_generator, require_positive_int, require_tensor
from ..blocks import NeuronBlock
from ..measures import LayeredMeasure
from ..ode import Pass, Trajectory, adjoint, flow

__all__ = ["ScaledResNet", "initial_particles"]


def initial_particles(
    dim: int,
    layers: int,
    encoder: int,
    predictor: int,
    generator: torch.Generator,
    symmetrised: bool = True,
    batch: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor]:
    r"""Sample :math:`\nu_0^s = N(0, I_{2d+1})` and :math:`\tau_0 = N(0, I_{d+2})`.

    A symmetrised sample holds (u, w, b) together with (-u, w, b), so that, as in the
    mean-field limit, :math:`Z(x, s) = x`, :math:`f = 0` and :math:`p = 0` at the start.

    Parameters
    ----------
    dim, layers, encoder, predictor : int
        The sizes d, L, M and K; M and K even when symmetrised.
    generator : torch.Generator
        The source of randomness.
    symmetrised : bool
        Pair every particle with its mirror image.
    batch : tuple of int
        Leading batch dimensions.

    Returns
    -------
    theta : Tensor
        Shape (batch..., L, M, 2d+1).
    omega : Tensor
        Shape (batch..., K, d+2).

    Raises
    ------
    TypeError, ValueError
        If a size is impossible, or odd when symmetrised.
    """
    require_generator(generator)
    sizes = {"dim": dim, "layers": layers, "encoder": encoder, "predictor": predictor}
    for name, size in sizes.items():
        require_positive_int(name, size)
        if symmetrised and name in ("encoder", "predictor") and size % 2:
            raise ValueError(f"{name}: {size} is odd; a symmetrised sample needs pairs")
    half = 2 if symmetrised else 1
    theta = torch.randn(
        *batch, layers, encoder // half, 2 * dim + 1, generator=generator, dtype=torch.float64
    )
    omega = torch.randn(
        *batch, predictor // half, dim + 2, generator=generator, dtype=torch.float64
    )
    if not symmetrised:
        return theta, omega
    flip_theta, flip_omega = torch.ones(2 * dim + 1), torch.ones(dim + 2)
    flip_theta[:dim], flip_omega[0] = -1.0, -1.0
    return (
        torch.cat([theta, theta * flip_theta], -2),
        torch.cat([omega, omega * flip_omega], -2),
    )


@dataclass(frozen=True)
class ScaledResNet:
    r"""The network of chen2024, eq. (2)-(6), with free scalings.

    Parameters
    ----------
    dim : int
        The input dimension d.
    sigma : str or Activation
        The activation :math:`\sigma_0`.
    alpha, beta : float
        Scalings of the encoder and of the predictor.
    """

    dim: int
    sigma: str | Activation = "tanh"
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        require_positive_int("dim", self.dim)
        object.__setattr__(self, "encoder", NeuronBlock(self.dim, self.sigma))
        object.__setattr__(self, "predictor", NeuronBlock(self.dim, self.sigma, out=1))

    def features(self, theta: Tensor, x: Tensor) -> Trajectory:
        r"""Return the states :math:`Z_l`, eq. (2); theta (..., L, M, 2d+1), x (..., n, d)."""
        require_tensor("theta", theta, 3, last=self.encoder.k)
        weights = torch.full(
            theta.shape[-3:-1], self.alpha / theta.shape[-2], dtype=theta.dtype
        )
        return flow(self.encoder, LayeredMeasure(theta, weights), x, theta.shape[-3])

    def head(self, omega: Tensor, z: Tensor) -> Tensor:
        r"""Return :math:`\beta \int h(z, \omega)\, d\tau(\omega)`, shape (..., n)."""
        require_tensor("omega", omega, 2, last=self.predictor.k)
        weights = torch.full(omega.shape[-2:-1], self.beta / omega.shape[-2], dtype=z.dtype)
        return self.predictor.field(z, omega, weights)[..., 0]

    def predict(self, theta: Tensor, omega: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`f_{\tau,\nu}(x_i)`, eq. (6), shape (..., n)."""
        return self.head(omega, self.features(theta, x).X[..., -1, :, :])

    def loss(self, theta: Tensor, omega: Tensor, x: Tensor, y: Tensor) -> Tensor:
        r"""Return :math:`\hat L = \frac1{2n} \sum_i (f(x_i) - y_i)^2`, shape (...)."""
        return 0.5 * (self.predict(theta, omega, x) - y).square().mean(-1)

    def backward(self, theta: Tensor, omega: Tensor, x: Tensor, y: Tensor) -> Pass:
        r"""Return states, adjoint (eq. (15), (16), from :math:`\int \nabla_z h\, d\tau`) and residuals."""
        trajectory = self.features(theta, x)
        z = trajectory.X[..., -1, :, :]
        uniform = torch.full(omega.shape[-2:-1], 1.0 / omega.shape[-2], dtype=z.dtype)
        ones = torch.ones_like(z[..., :1])
        p1 = self.predictor.vjp(z, omega, uniform, ones)
        return Pass(
            trajectory, adjoint(self.encoder, trajectory, p1), self.head(omega, z) - y
        )

    def encoder_derivative(self, state: Pass, probes: Tensor) -> Tensor:
        r"""Return :math:`\delta\hat L/\delta\nu` at probes, eq. (14).

        .. math::

            \frac{\delta \hat L}{\delta \nu}(\theta, s)
                = \frac{\alpha\beta}{n} \sum_i b_i\,
                  p_\nu(x_i, s)^\top \sigma(Z_\nu(x_i, s), \theta).

        Parameters
        ----------
        state : Pass
            From :meth:`backward`.
        probes : Tensor
            Shape (..., L, P, 2d+1), or (P, 2d+1) for the same in all layers.

        Returns
        -------
        Tensor
            Shape (..., L, P).
        """
        if probes.ndim < 3:
            probes = probes.unsqueeze(-3)
        z, p = state.trajectory.stages[..., 0, :, :], state.adjoint.stages[..., 0, :, :]
        values = self.encoder.pairing(z, probes, p)
        mass = self.alpha * self.beta * state.residual / state.residual.shape[-1]
        return torch.einsum("...lip,...i->...lp", values, mass)

    def predictor_derivative(self, state: Pass, probes: Tensor) -> Tensor:
        r"""Return :math:`\frac{\delta\hat L}{\delta\tau}(\omega) = \frac\beta n \sum_i b_i h(Z_i, \omega)`.

        `probes` of shape (..., P, d+2); returns shape (..., P) (eq. (11)).
        """
        z = state.trajectory.X[..., -1, :, :]
        values = self.predictor.pairing(z, probes, torch.ones_like(z[..., :1]))
        mass = self.beta * state.residual / state.residual.shape[-1]
        return torch.einsum("...ip,...i->...p", values, mass)

    def velocity(
        self, theta: Tensor, omega: Tensor, x: Tensor, y: Tensor,
        state: Pass | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Return the training velocity of every particle, eq. (8)-(12).

        .. math::

            \dot\theta = -\nabla_\theta \frac{\delta\hat L}{\delta\nu}
                       = -LM\, \partial_\theta \hat L,
            \qquad
            \dot\omega = -\nabla_\omega \frac{\delta\hat L}{\delta\tau}
                       = -K\, \partial_\omega \hat L.

        Parameters
        ----------
        theta, omega : Tensor
            Shapes (..., L, M, 2d+1) and (..., K, d+2).
        x, y : Tensor
            Shapes (..., n, d) and (..., n).
        state : Pass, optional
            A pass at the same particles, if there is one already.

        Returns
        -------
        tuple of Tensor
            Shapes of theta and omega; exact at finite L, M and K.
        """
        if state is None:
            state = self.backward(theta, omega, x, y)
        n = state.residual.shape[-1]
        mass = self.beta / n * state.residual
        dtheta = self.encoder.pairing_grad(
            state.trajectory.stages[..., 0, :, :], theta,
            state.adjoint.stages[..., 0, :, :], self.alpha * mass.unsqueeze(-2),
        )
        z = state.trajectory.X[..., -1, :, :]
        domega = self.predictor.pairing_grad(z, omega, torch.ones_like(z[..., :1]), mass)
        return -dtheta, -domega

    def step(
        self, theta: Tensor, omega: Tensor, x: Tensor, y: Tensor, h: float
    ) -> tuple[Tensor, Tensor]:
        r"""Advance the training flow by one classical Runge-Kutta step of length `h` in t.

        Notes
        -----
        The flow is stiff: a step is stable only for
        :math:`h \beta^2 \lambda_{\max}(\alpha^2 G_1 + G_2)/n < 2.78`.
        """
        k1 = self.velocity(theta, omega, x, y)
        k2 = self.velocity(theta + h / 2 * k1[0], omega + h / 2 * k1[1], x, y)
        k3 = self.velocity(theta + h / 2 * k2[0], omega + h / 2 * k2[1], x, y)
        k4 = self.velocity(theta + h * k3[0], omega + h * k3[1], x, y)
        theta, omega = (
            start + h / 6 * (a + 2 * b + 2 * c + d)
            for start, a, b, c, d in zip((theta, omega), k1, k2, k3, k4, strict=True)
        )
        return theta, omega
