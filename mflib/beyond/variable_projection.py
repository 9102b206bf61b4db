r"""Two-layer networks on the torus whose output weights are solved for: variable projection.

The features are trigonometric up to a degree, :math:`\varphi(\omega) \in \mathbb R^P`, and the
teacher is a law :math:`\nu` with the target :math:`y = \int \varphi\,d\nu`. A law of features
:math:`\mu` is judged with the best output weights u,

.. math::

    F(\mu) = \min_u \frac{1}{2\lambda}\Big|y - \int u\,\varphi\,d\mu\Big|^2
        + \frac12\int u^2\,d\mu = \frac12\, y^\top (T_\mu + \lambda)^{-1} y,
    \qquad T_\mu = \int \varphi\,\varphi^\top d\mu,

attained at :math:`u(\omega) = \varphi(\omega)^\top (T_\mu + \lambda)^{-1} y` (barboni2025fast, in
the notation of this book). Its first variation is :math:`-\frac12 u^2`, so a particle moves
with the velocity :math:`u\,u'`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..arguments import (
    require_alike,
    require_broadcast,
    require_masses,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..stepping import runge_kutta_step

__all__ = ["VariableProjection", "trigonometric"]


def trigonometric(omega: Tensor, degree: int) -> tuple[Tensor, Tensor]:
    r"""Return :math:`1, \sqrt2\cos2\pi k\omega, \sqrt2\sin2\pi k\omega` and their derivatives.

    Parameters
    ----------
    omega : Tensor
        Points of the unit torus, shape (..., N).
    degree : int
        The largest k, at least 1.

    Returns
    -------
    tuple of Tensor
        Two of shape (..., N, P) with P twice the degree plus one, orthonormal over the torus.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Examples
    --------
    >>> trigonometric(torch.zeros(1), 1)[0]
    tensor([[1.0000, 1.4142, 0.0000]])
    """
    require_tensor("omega", omega, 1)
    require_positive_int("degree", degree)
    k = 2 * math.pi * torch.arange(1, degree + 1, dtype=omega.dtype, device=omega.device)
    angle = omega.unsqueeze(-1) * k
    cos, sin = math.sqrt(2) * angle.cos(), math.sqrt(2) * angle.sin()
    one = torch.ones_like(omega).unsqueeze(-1)
    return torch.cat([one, cos, sin], -1), torch.cat([0 * one, -k * sin, k * cos], -1)


@dataclass(frozen=True)
class VariableProjection:
    r"""A teacher seen through trigonometric features, and the penalty of the output weights.

    Parameters
    ----------
    target : Tensor
        :math:`y`, the teacher's features, shape (..., P) with P odd.
    penalty : float
        :math:`\lambda`, at least 0. Zero needs as many particles as features.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed.

    Notes
    -----
    Methods take `omega` (..., N), points of the torus, and `masses` (..., N), 1/N each unless
    given, and raise a TypeError or ValueError that names what does not fit.

    Examples
    --------
    The features of the uniform law, and particles that represent it already:

    >>> problem = VariableProjection(torch.tensor([1.0, 0.0, 0.0]), 0.0)
    >>> float(problem.loss(torch.arange(4) / 4))
    0.5
    """

    target: Tensor
    penalty: float

    def __post_init__(self) -> None:
        require_tensor("target", self.target, 1)
        if self.target.shape[-1] < 3 or self.target.shape[-1] % 2 == 0:
            raise ValueError(f"target: {self.target.shape[-1]} features; expected 3, 5, 7, ...")
        require_number("penalty", self.penalty, least=0)

    def _admit(self, omega: Tensor, masses: Tensor | None) -> Tensor:
        require_tensor("omega", omega, 1)
        count = omega.shape[-1]
        if masses is None:
            masses = torch.full_like(omega[..., :1], 1 / count).expand(omega.shape)
        require_masses("masses", masses, count)
        require_alike(target=self.target, omega=omega, masses=masses)
        require_broadcast(target=self.target.shape[:-1], omega=omega.shape[:-1])
        require_broadcast(omega=omega.shape, masses=masses.shape)
        if self.penalty == 0 and count < self.target.shape[-1]:
            raise ValueError(
                f"omega: {count} particles for {self.target.shape[-1]} features and no penalty; "
                "take more particles or a positive penalty"
            )
        return masses

    def _solve(self, omega: Tensor, masses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features, their derivatives and the coefficients of the best weights."""
        phi, slope = trigonometric(omega, self.target.shape[-1] // 2)
        gram = phi.mT @ (masses.unsqueeze(-1) * phi)
        gram = gram + self.penalty * torch.eye(gram.shape[-1], dtype=gram.dtype)
        target = self.target.expand(*gram.shape[:-2], -1)
        return phi, slope, torch.linalg.solve(gram, target).unsqueeze(-1)

    def _velocity(self, omega: Tensor, masses: Tensor) -> Tensor:
        phi, slope, a = self._solve(omega, masses)
        return ((phi @ a) * (slope @ a)).squeeze(-1)

    def output_weights(self, omega: Tensor, masses: Tensor | None = None) -> Tensor:
        r"""Return the best output weights u at the particles, shape (..., N)."""
        phi, _, a = self._solve(omega, self._admit(omega, masses))
        return (phi @ a).squeeze(-1)

    def loss(self, omega: Tensor, masses: Tensor | None = None) -> Tensor:
        r"""Return F, shape (...)."""
        a = self._solve(omega, self._admit(omega, masses))[2]
        return 0.5 * (self.target * a.squeeze(-1)).sum(-1)

    def velocity(self, omega: Tensor, masses: Tensor | None = None) -> Tensor:
        r"""Return :math:`u\,u'` at the particles, shape (..., N)."""
        return self._velocity(omega, self._admit(omega, masses))

    def follow(
        self,
        omega: Tensor,
        time: float,
        steps: int,
        masses: Tensor | None = None,
        solve_once: bool = False,
    ) -> Tensor:
        r"""Return the particles after `time`, by the classical Runge-Kutta method.

        Parameters
        ----------
        omega : Tensor
            Where they begin, shape (..., N).
        time : float
            At least 0.
        steps : int
            Equal steps.
        masses : Tensor, optional
            Shape (..., N), of sum 1.
        solve_once : bool
            Keep the output weights that are best at the start, as a function of the feature.

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed.
        """
        masses = self._admit(omega, masses)
        require_number("time", time, least=0)
        require_positive_int("steps", steps)
        kept = self._solve(omega, masses)[2]

        def once(at: Tensor) -> Tensor:
            phi, slope = trigonometric(at, self.target.shape[-1] // 2)
            return ((phi @ kept) * (slope @ kept)).squeeze(-1)

        for _ in range(steps):
            move = once if solve_once else lambda at: self._velocity(at, masses)
            omega = runge_kutta_step(move, omega, time / steps)
        return omega
