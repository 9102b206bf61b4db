"""The predictor's kernels on the sphere."""

import math

import pytest
import scipy.linalg
import torch
from problems import randn

from mflib.chen2024.sphere_kernel import Spectrum
from mflib.kernels import hermite_coefficients

SPECTRUM = Spectrum("tanh")


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(randn(n, d, seed=seed), dim=-1)


def test_hermite_coefficients_of_the_quadratic_are_exact():
    expected = torch.tensor([2.0, 0.0, 2.0 * math.sqrt(2.0), 0.0], dtype=torch.float64)
    torch.testing.assert_close(hermite_coefficients("quadratic", 3), expected)


def test_kernels_equal_expectations_by_autograd():
    x = sphere(4, 3)
    omega = randn(200_000, 5, seed=5)
    a, c = omega[:, 0], omega[:, 1:4] @ x.T + omega[:, 4:]
    s, s1 = torch.tanh(c), 1 - torch.tanh(c) ** 2
    h = a[:, None] * s
    grads = torch.cat(
        [s[:, :, None], (a[:, None] * s1)[..., None] * x, (a[:, None] * s1)[..., None]],
        -1,
    )
    generated = a[:, None] * (-4 * s * s1 - s - c * s1)
    for power, left in ((0, h), (2, generated)):
        torch.testing.assert_close(
            SPECTRUM.kernel(x, power=power),
            left.T @ left / len(a),
            rtol=0.05,
            atol=0.03,
        )
    torch.testing.assert_close(
        SPECTRUM.kernel(x, power=1),
        torch.einsum("mik,mjk->ij", grads, grads) / len(a),
        rtol=0.03,
        atol=0.02,
    )


def test_radii_are_those_of_the_linear_flow_and_ordered():
    x, y = sphere(5, 4), randn(5, seed=2)
    flow, least = SPECTRUM.radii(x, y)
    # the flow of the residual b' = -K1 b from b = -y moves the law by the integral
    # of its residuals through the generator: c = K1^{-1} y, one mode at a time
    values, basis = torch.linalg.eigh(SPECTRUM.kernel(x, power=1))
    time = torch.linspace(0, 400, 200_001, dtype=torch.float64)
    decay = torch.exp(-values[:, None] * time)
    c = basis @ (torch.trapezoid(decay, time) * (basis.T @ y))
    assert float(flow) == pytest.approx(float(0.5 * c @ SPECTRUM.kernel(x, power=2) @ c), rel=1e-3)
    assert least <= flow
    one = SPECTRUM.radii(x[:1], y[:1])
    k = [float(SPECTRUM.kernel(x[:1], power=p)) for p in range(3)]
    assert float(one[0]) == pytest.approx(0.5 * float(y[0]) ** 2 * k[2] / k[1] ** 2)


def test_the_felt_degree_is_the_largest_ratio_of_the_two_forms():
    x = torch.stack([sphere(12, 4), sphere(12, 4, seed=7)])
    chi = SPECTRUM.felt_degree(x)
    k1, k2 = (SPECTRUM.kernel(x, power=p).numpy() for p in (1, 2))
    for found, one, two in zip(chi, k1, k2, strict=True):
        assert float(found) == pytest.approx(scipy.linalg.eigh(two, one)[0][-1], rel=1e-9)
    torch.testing.assert_close(SPECTRUM.felt_degree(x, power=1), torch.ones(2).double())
    # one point: the mean degree; and the chain of bounds for labels of any kind
    alone = [float(SPECTRUM.kernel(x[0, :1], power=p)) for p in (1, 2)]
    assert float(SPECTRUM.felt_degree(x[0, :1])) == pytest.approx(alone[1] / alone[0])
    flow, least = SPECTRUM.radii(x, randn(2, 12, seed=3))
    assert (flow <= chi / 2 * least).all()
    # K_1 >= 2 K_0 for an odd activation
    kernels = [SPECTRUM.kernel(x, power=p) for p in (0, 1)]
    assert torch.linalg.eigvalsh(kernels[1] - 2 * kernels[0]).min() > -1e-12


@pytest.mark.parametrize("d", [3, 5, 10])
def test_eigenvalues_on_the_sphere_add_up_to_the_diagonal(d):
    eigenvalues, many = SPECTRUM.sphere(d)
    assert eigenvalues.min() > -1e-13
    assert eigenvalues @ many == pytest.approx(float((SPECTRUM.mu**2).sum()), rel=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: SPECTRUM.kernel(2 * sphere(3, 3)),
        lambda: SPECTRUM.sphere(2),
        lambda: SPECTRUM.radii(sphere(3, 3), randn(4)),
        lambda: SPECTRUM.felt_degree(torch.ones(2, 1).double()),
        lambda: SPECTRUM.kernel(sphere(3, 3), power=-1),
        lambda: SPECTRUM.radii(sphere(1, 3).expand(2, 3), randn(2)),
        lambda: Spectrum("relu"),
        lambda: Spectrum("relu", 400),
        lambda: Spectrum("tanh", 10),
        lambda: hermite_coefficients("tanh", 0),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(ValueError, match=":"):
        call()


def test_an_activation_with_a_kink_is_told_what_is_wrong():
    with pytest.raises(ValueError, match="relu lacks .* raise degree, or take an activation"):
        Spectrum("relu")
