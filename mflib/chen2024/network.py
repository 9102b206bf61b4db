r"""The scaled residual network of chen2024: encoder, predictor and training velocity.

.. math::

    Z_{l+1} = Z_l + \frac{\alpha}{ML} \sum_{m=1}^M u_{l,m}\,
        \sigma_0(w_{l,m}\cdot Z_l + b_{l,m}),
    \qquad
    f(x) = \frac{\beta}{K} \sum_{k=1}^K a_k\, \sigma_0(w_k \cdot Z_L + b_k).

Letters as in the paper: depth is s, training time is t, :math:`\nu` is the law of the
encoder's particles :math:`\theta`, :math:`\tau` that of the predictor's :math:`\omega`;
wherever both appear, :math:`\theta` stands first. The formulas of the paper were not at
hand; they are rebuilt here from its prose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..activations import Activation, activation
from ..arguments import (
    require_alike,
    require_batch,
    require_broadcast,
    require_choice,
    require_generator,
    require_instance,
    require_number,
    require_positive_int,
    require_tensor,
)
from ..blocks import NeuronBlock
from ..gram import gram_encoder, gram_predictor
from ..measures import LayeredMeasure
from ..ode import (
    Adjoint,
    Pass,
    Trajectory,
    flow,
    network,
    require_finite_states,
    squared_loss,
)
from ..sweep import Kernel, Layers, Network
from .ornstein_uhlenbeck import NeuronSum

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
    batch = require_batch(batch)
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

    Particles share the mass 1 equally. In place of the encoder's particles `theta` every
    method takes None, the frozen encoder :math:`Z_\nu(x, s) = x` of a symmetrised start,
    a network without layers.

    Parameters
    ----------
    dim : int
        The input dimension d.
    sigma : str or Activation
        The activation :math:`\sigma_0`.
    alpha, beta : float or Tensor
        Scalings of the encoder and of the predictor, positive; a tensor (...) has one
        value a batch entry.

    Raises
    ------
    TypeError, ValueError
        If an argument is malformed or a scaling not positive.

    Examples
    --------
    >>> net = ScaledResNet(2, alpha=1.5)
    >>> theta, omega = initial_particles(2, 3, 4, 6, torch.Generator().manual_seed(0))
    >>> x, y = torch.eye(2).double(), torch.ones(2).double()
    >>> float(net.loss(theta, omega, x, y))  # a symmetrised start predicts zero
    0.5
    """

    dim: int
    sigma: str | Activation = "tanh"
    alpha: float | Tensor = 1.0
    beta: float | Tensor = 1.0

    def __post_init__(self) -> None:
        require_positive_int("dim", self.dim)
        activation(self.sigma)
        for name, value in (("alpha", self.alpha), ("beta", self.beta)):
            if not isinstance(value, Tensor):
                require_number(name, value, above=0)
            elif not (require_tensor(name, value, 0) > 0).all():
                raise ValueError(f"{name}: expected positive scalings, got {value}")

    @cached_property
    def encoder(self) -> NeuronBlock:
        r"""The block :math:`\sigma(z, \theta) = u\,\sigma_0(w\cdot z + b)` of a layer."""
        return NeuronBlock(self.dim, self.sigma)

    @cached_property
    def predictor(self) -> NeuronBlock:
        r"""The block :math:`h(z, \omega) = a\,\sigma_0(w\cdot z + b)`."""
        return NeuronBlock(self.dim, self.sigma, out=1)

    def scales(self, inner: int) -> tuple[float | Tensor, float | Tensor]:
        r"""Return :math:`\alpha` and :math:`\beta` with `inner` dimensions behind the batch's."""
        alpha, beta = (
            v[(..., *(None,) * inner)] if isinstance(v, Tensor) else v
            for v in (self.alpha, self.beta)
        )
        return alpha, beta

    def _batches(
        self, theta: Tensor | None, omega: Tensor, x: Tensor, **more: Tensor
    ) -> torch.Size:
        require_tensor("x", x, 2, last=self.dim)
        require_tensor("omega", omega, 2, last=self.predictor.k)
        given = {"x": x.shape[:-2], "omega": omega.shape[:-2]}
        if theta is not None:
            given["theta"] = require_tensor("theta", theta, 3, last=self.encoder.k).shape[:-3]
        for name, y in more.items():
            given[name] = require_tensor(name, y, 1, last=x.shape[-2]).shape[:-1]
        for name, scale in (("alpha", self.alpha), ("beta", self.beta)):
            given[name] = scale.shape if isinstance(scale, Tensor) else ()
        require_alike(x=x, theta=theta, omega=omega, **more)
        return require_broadcast(**given)

    def _particles(self, theta: Tensor | None, omega: Tensor, passed: Pass) -> None:
        require_instance("passed", passed, Pass)
        require_tensor("omega", omega, 2, last=self.predictor.k)
        given = {"passed": passed.residual.shape[:-1], "omega": omega.shape[:-2]}
        if theta is not None:
            given["theta"] = require_tensor("theta", theta, 3, last=self.encoder.k).shape[:-3]
        require_alike(passed=passed.residual, theta=theta, omega=omega)
        require_broadcast(**given)

    def features(self, theta: Tensor | None, x: Tensor) -> Trajectory:
        r"""Return the states :math:`Z_l`, eq. (2).

        Parameters
        ----------
        theta : Tensor or None
            Shape (..., L, M, 2d+1).
        x : Tensor
            Shape (..., n, d).
        """
        require_tensor("x", x, 2, last=self.dim)
        require_alike(x=x, theta=theta)
        if theta is None:
            none = x.new_zeros(0, 1, 0, self.encoder.k)
            return Trajectory(
                x.unsqueeze(-3),
                x[..., None, None, :, :][..., :0, :, :, :],
                none,
                none[..., 0],
                "euler",
            )
        layers = require_tensor("theta", theta, 3, last=self.encoder.k).shape[-3]
        return flow(self.encoder, self._law(theta), x, layers)

    def head(self, omega: Tensor, z: Tensor) -> Tensor:
        r"""Return :math:`\beta \int h(z, \omega)\, d\tau(\omega)`, shape (..., n).

        Parameters
        ----------
        omega : Tensor
            Shape (..., K, d+2).
        z : Tensor
            States, shape (..., n, d).
        """
        require_tensor("z", z, 2, last=self.dim)
        k = require_tensor("omega", omega, 2, last=self.predictor.k).shape[-2]
        require_alike(omega=omega, z=z)
        require_broadcast(omega=omega.shape[:-2], z=z.shape[:-2])
        uniform = torch.full((k,), 1.0 / k, dtype=omega.dtype)
        return self.scales(1)[1] * self.predictor.field(z, omega, uniform)[..., 0]

    def predict(self, theta: Tensor | None, omega: Tensor, x: Tensor) -> Tensor:
        r"""Return :math:`f_{\tau,\nu}(x_i)`, eq. (6), shape (..., n).

        Parameters
        ----------
        theta, omega : Tensor
            Shapes (..., L, M, 2d+1) and (..., K, d+2).
        x : Tensor
            Shape (..., n, d).
        """
        self._batches(theta, omega, x)
        return self.head(omega, self.features(theta, x).X[..., -1, :, :])

    def loss(self, theta: Tensor | None, omega: Tensor, x: Tensor, y: Tensor) -> Tensor:
        r"""Return :math:`\hat L = \frac1{2n} \sum_i (f(x_i) - y_i)^2`, shape (...).

        Parameters
        ----------
        theta, omega : Tensor
            Shapes (..., L, M, 2d+1) and (..., K, d+2).
        x, y : Tensor
            Shapes (..., n, d) and (..., n).
        """
        self._batches(theta, omega, x, y=y)
        return squared_loss(self.predict(theta, omega, x) - y)

    def backward(self, theta: Tensor | None, omega: Tensor, x: Tensor, y: Tensor) -> Pass:
        r"""Return states, adjoint and residuals of one forward and backward pass.

        The adjoint of eq. (15) and (16) starts from
        :math:`p_\nu(x, 1) = \int \nabla_z h(Z_\nu(x, 1), \omega)\, d\tau(\omega)`: neither
        scaling nor residual is inside.

        Parameters
        ----------
        theta, omega : Tensor
            Shapes (..., L, M, 2d+1) and (..., K, d+2).
        x, y : Tensor
            Shapes (..., n, d) and (..., n).

        Returns
        -------
        Pass

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed.
        """
        batch = self._batches(theta, omega, x, y=y)
        if theta is None:
            z = x.expand(*batch, *x.shape[-2:])
            uniform = torch.full_like(omega[..., 0], 1.0 / omega.shape[-2])
            p1 = self.predictor.vjp(z, omega, uniform, torch.ones_like(z[..., :1]))
            trajectory = self.features(None, z)
            costates = Adjoint(p1.unsqueeze(-3), trajectory.stages)
            return Pass(trajectory, costates, self.head(omega, z) - y)
        layers = network(self.encoder, self._law(theta), theta.shape[-3])

        def ends(Z: Tensor, y: Tensor, beta: Tensor, head: Kernel) -> tuple[Tensor, Tensor]:
            f = beta * head.field(0, Z, torch.zeros_like(Z[..., :2, :]), 1.0)[..., :1, :]
            p1 = head.pull(0, Z, torch.ones_like(f), torch.zeros_like(Z[..., : self.dim, :]), 1.0)
            return p1, f - y

        residual, X, stages, p, costates = self._round_trip(
            batch, layers, omega, x, y, ends, keep=True
        )
        trajectory = Trajectory(X, stages, layers.theta, layers.weights, layers.method)
        return Pass(trajectory, Adjoint(p, costates), residual)

    def slopes(
        self, theta: Tensor, omega: Tensor, x: Tensor, y: Tensor, laplacian: bool = False
    ) -> tuple[Tensor, ...]:
        r"""Return the gradients of the functional derivatives at the network's own particles.

        One pass, without the states being kept: :math:`\nabla_\theta\,
        \delta\hat L/\delta\nu` and :math:`\nabla_\omega\, \delta\hat L/\delta\tau`, and then
        their Laplacians if wanted.

        Parameters
        ----------
        theta, omega : Tensor
            Shapes (..., L, M, 2d+1) and (..., K, d+2).
        x, y : Tensor
            Shapes (..., n, d) and (..., n).
        laplacian : bool
            Whether the Laplacians are wanted too.

        Returns
        -------
        tuple of Tensor
            Shapes of theta and omega; then (..., L, M) and (..., K).

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed.
        """
        require_tensor("theta", theta, 3, last=self.encoder.k)
        require_choice("laplacian", laplacian, (False, True))
        batch, n = self._batches(theta, omega, x, y=y), x.shape[-2]
        layers = network(self.encoder, self._law(theta), theta.shape[-3])

        def ends(Z: Tensor, y: Tensor, beta: Tensor, head: Kernel) -> tuple[Tensor, Tensor]:
            f = beta * head.field(0, Z, torch.zeros_like(Z[..., :2, :]), 1.0)[..., :1, :]
            mass = (f - y) * beta / n
            return head.pull(0, Z, mass, torch.zeros_like(Z[..., : self.dim, :]), 1.0), f - y

        _, *sums = self._round_trip(batch, layers, omega, x, y, ends, laplacian=laplacian)
        (encoder, _, *bend), (predictor, _, *bent) = sums[: len(sums) // 2], sums[len(sums) // 2 :]
        found = [self.scales(3)[0] * encoder, predictor.squeeze(-3)]
        if laplacian:
            found += [self.scales(2)[0] * bend[0], bent[0].squeeze(-2)]
        return tuple(found)

    def _law(self, theta: Tensor) -> LayeredMeasure:
        layers, m = theta.shape[-3:-1]
        weights = torch.full((layers, m), 1.0 / m, dtype=theta.dtype)
        return LayeredMeasure(theta, self.scales(2)[0] * weights)

    def _round_trip(
        self,
        batch: torch.Size,
        layers: Network,
        omega: Tensor,
        x: Tensor,
        y: Tensor,
        ends: Callable[..., tuple[Tensor, Tensor]],
        **wanted: bool,
    ) -> list[Tensor]:
        uniform = torch.full_like(omega[..., 0], 1.0 / omega.shape[-2])
        head = Layers(self.predictor, omega.unsqueeze(-3), uniform.unsqueeze(-2))
        beta = torch.as_tensor(self.beta, dtype=x.dtype).unsqueeze(-1)
        x = x.expand(*batch, *x.shape[-2:])
        found = layers.round_trip(x, [y, beta], ends, [head], **wanted)
        require_finite_states(found[0])
        return found

    def first_variation(self, passed: Pass) -> tuple[NeuronSum, NeuronSum]:
        r"""Return the functional derivatives of the loss by both laws, as sums of neurons.

        .. math::

            \frac{\delta \hat L}{\delta \nu}(\theta, s)
                = \frac{\alpha\beta}{n} \sum_i b_i\,
                  p_\nu(x_i, s)^\top \sigma(Z_\nu(x_i, s), \theta),
            \qquad
            \frac{\delta\hat L}{\delta\tau}(\omega)
                = \frac\beta n \sum_i b_i\, h(Z_\nu(x_i, 1), \omega)

        (chen2024, eq. (14) and (11)), the first with a dimension for the layers.
        """
        alpha, beta = self.scales(1)
        z = require_instance("passed", passed, Pass).output
        if z.shape[-1] != self.dim:
            raise ValueError(f"passed: has states in dimension {z.shape[-1]}, not {self.dim}")
        mass = beta * passed.residual / passed.residual.shape[-1]
        return (
            NeuronSum(self.encoder, passed.states, passed.costates, (alpha * mass).unsqueeze(-2)),
            NeuronSum(self.predictor, z, torch.ones_like(z[..., :1]), mass),
        )

    def encoder_derivative(self, passed: Pass, probes: Tensor) -> Tensor:
        r"""Return :math:`\delta\hat L/\delta\nu` (eq. (14)) at probes, shape (..., L, P).

        `probes` of shape (..., L, P, 2d+1), or (P, 2d+1) for the same in all layers.
        """
        phi = self.first_variation(passed)[0]
        require_tensor("probes", probes, 2, last=self.encoder.k)
        require_alike(passed=passed.residual, probes=probes)
        return phi.value(probes.unsqueeze(-3) if probes.ndim < 3 else probes)

    def predictor_derivative(self, passed: Pass, probes: Tensor) -> Tensor:
        r"""Return :math:`\delta\hat L/\delta\tau` (eq. (11)) at probes, shape (..., P).

        Parameters
        ----------
        passed : Pass
            From :meth:`backward`.
        probes : Tensor
            Shape (..., P, d+2).
        """
        phi = self.first_variation(passed)[1]
        require_tensor("probes", probes, 2, last=self.predictor.k)
        require_alike(passed=passed.residual, probes=probes)
        return phi.value(probes)

    def velocity(
        self, theta: Tensor | None, omega: Tensor, passed: Pass
    ) -> tuple[Tensor | None, Tensor]:
        r"""Return the velocities of particles during training, eq. (8)-(12).

        .. math::

            \dot\theta = -\nabla_\theta \frac{\delta\hat L}{\delta\nu}
                       = -LM\, \partial_\theta \hat L,
            \qquad
            \dot\omega = -\nabla_\omega \frac{\delta\hat L}{\delta\tau}
                       = -K\, \partial_\omega \hat L,

        where the second form holds, exactly at finite L, M and K, for the particles that
        made the pass; others move as test points without mass.

        Parameters
        ----------
        theta, omega : Tensor
            Shapes (..., L, M, 2d+1) and (..., K, d+2).
        passed : Pass
            From :meth:`backward`, whose states and adjoints make the field.

        Returns
        -------
        tuple of Tensor
            Shapes of theta and omega; None for a frozen encoder.
        """
        moves = self.field_slopes(theta, omega, passed)
        return tuple(None if v is None else -v for v in moves)

    def field_slopes(
        self, theta: Tensor | None, omega: Tensor, passed: Pass, laplacian: bool = False
    ) -> tuple[Tensor | None, ...]:
        r"""Return what :meth:`slopes` does, in the field of a pass instead of one's own.

        Parameters
        ----------
        theta, omega : Tensor
            Any particles, shapes (..., L, M, 2d+1) and (..., K, d+2).
        passed : Pass
            From :meth:`backward`.
        laplacian : bool
            Whether the Laplacians are wanted too.

        Returns
        -------
        tuple of Tensor
            As there; None for a frozen encoder.
        """
        self._particles(theta, omega, passed)
        require_choice("laplacian", laplacian, (False, True))
        encoder, predictor = self.first_variation(passed)
        last = predictor.slopes(omega, laplacian)
        first = [None] * len(last) if theta is None else encoder.slopes(theta, laplacian)
        return tuple(v for pair in zip(first, last, strict=True) for v in pair)

    def gram(self, theta: Tensor | None, omega: Tensor, passed: Pass) -> Tensor:
        r"""Return :math:`\alpha^2 G_1 + G_2` of the energy identity, shape (..., n, n).

        Along the training flow :math:`\frac{d\hat L}{dt} = -\frac{\beta^2}{n^2}\,
        b^\top (\alpha^2 G_1 + G_2)\, b` (chen2024, Theorem 4.1).

        Parameters
        ----------
        theta, omega : Tensor
            Shapes (..., L, M, 2d+1) and (..., K, d+2).
        passed : Pass
            From :meth:`backward` at the same particles.
        """
        self._particles(theta, omega, passed)
        gram = gram_predictor(self.predictor, omega, passed)
        if theta is None:
            return gram
        return gram + self.scales(2)[0] ** 2 * gram_encoder(self.encoder, theta, passed)
