r"""Scalar activations with their first two derivatives in closed form."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .arguments import require_instance, require_number

__all__ = ["ACTIVATIONS", "Activation", "Form", "activation", "form", "tanh_form"]

#: Below this bound of the preactivations tanh is evaluated to its own rounding.
_SMALL = 0.1


@dataclass(frozen=True)
class Form:
    r"""How an activation is evaluated in place, where its value and slope are wanted often.

    From preactivations multiplied by `scale`, which costs nothing where it is put into the
    weights, a state S is made once; value and slope follow from it,

    .. math::

        \sigma = c\,S - [\text{shift}], \qquad
        \sigma' = g \cdot \text{slope}(S), \qquad
        \sigma'' = (a + b\,S)\,\sigma'.

    Attributes
    ----------
    name : str
        What is evaluated.
    state : callable
        Overwrites a tile of scaled preactivations, and the further tiles, with the state.
    slope : callable
        Multiplies its first argument by the slope at the state, in place.
    tiles : int
        How many tiles a state takes.
    scale, outer, inner : float
        The scale of the preactivations, c and g.
    shift : bool
        Whether 1 is to be subtracted.
    curve : tuple of float, optional
        a and b, where the second derivative has this shape.
    """

    name: str
    state: Callable[..., object]
    slope: Callable[..., object]
    tiles: int = 1
    scale: float = 1.0
    outer: float = 1.0
    inner: float = 1.0
    shift: bool = False
    curve: tuple[float, float] | None = None


@dataclass(frozen=True)
class Activation:
    r"""An entrywise activation :math:`\sigma` with :math:`\sigma'` and :math:`\sigma''`.

    At a kink the derivative is the one torch uses (0 for ReLU at 0); a claim that
    needs differentiability there must say so itself.

    Attributes
    ----------
    name : str
        The name under which :func:`activation` finds it.
    f, df, d2f : callable
        Value, first and second derivative, each mapping a tensor entrywise.
    forms : tuple of Form
        Ways to evaluate it in place; the first is exact to the rounding of the value.
    """

    name: str
    f: Callable[[Tensor], Tensor]
    df: Callable[[Tensor], Tensor]
    d2f: Callable[[Tensor], Tensor]
    forms: tuple[Form, ...] = ()

    def __call__(self, z: Tensor) -> Tensor:
        return self.f(z)


def _dtanh(z: Tensor) -> Tensor:
    return 1.0 - torch.tanh(z) ** 2


def _d2tanh(z: Tensor) -> Tensor:
    s = torch.tanh(z)
    return -2.0 * s * (1.0 - s**2)


def _dsigmoid(z: Tensor) -> Tensor:
    return torch.sigmoid(z) * torch.sigmoid(-z)


def _d2sigmoid(z: Tensor) -> Tensor:
    return _dsigmoid(z) * (1.0 - 2.0 * torch.sigmoid(z))


def _gaussian(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z**2)


# a times the slope at the state s, into a: not quite public, so a test holds them
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_threshold_backward = torch.ops.aten.threshold_backward.grad_input


def _tanh_slope(a: Tensor, s: Tensor) -> None:
    _tanh_backward(a, s, grad_input=a)


def _sigmoid_slope(a: Tensor, s: Tensor) -> None:
    _sigmoid_backward(a, s, grad_input=a)


def _relu_slope(a: Tensor, s: Tensor) -> None:
    _threshold_backward(a, s, 0.0, grad_input=a)


def _softplus_state(z: Tensor, slope: Tensor) -> None:
    # log(1 + e^z) = max(z, 0) - log max(p, 1 - p) with the slope p, the sigmoid
    torch.sigmoid(z, out=slope)
    z.clamp_(min=0.0).sub_(torch.maximum(slope, 1.0 - slope).log_())


def _times(a: Tensor, value: Tensor, slope: Tensor) -> None:
    a.mul_(slope)


_TANH = (
    Form("tanh", Tensor.tanh_, _tanh_slope, curve=(0.0, -2.0)),
    # tanh z = 2 s - 1, tanh' z = 4 s (1 - s) with s = sigmoid(2 z): exact to the rounding of 1
    Form("sigmoid", Tensor.sigmoid_, _sigmoid_slope, 1, 2.0, 2.0, 4.0, True, (2.0, -4.0)),
)


def _table(*rows: Activation) -> dict[str, Activation]:
    return {row.name: row for row in rows}


#: Every activation of the book, by name.
ACTIVATIONS: dict[str, Activation] = _table(
    Activation("tanh", torch.tanh, _dtanh, _d2tanh, _TANH),
    Activation(
        "sigmoid",
        torch.sigmoid,
        _dsigmoid,
        _d2sigmoid,
        (Form("sigmoid", Tensor.sigmoid_, _sigmoid_slope, curve=(1.0, -2.0)),),
    ),
    Activation(
        "shifted sigmoid",
        lambda z: torch.sigmoid(z + 1.0) - torch.sigmoid(torch.ones_like(z)),
        lambda z: _dsigmoid(z + 1.0),
        lambda z: _d2sigmoid(z + 1.0),
    ),
    Activation(
        "softplus",
        lambda z: torch.logaddexp(z, torch.zeros_like(z)),
        torch.sigmoid,
        _dsigmoid,
        (Form("softplus", _softplus_state, _times, tiles=2),),
    ),
    Activation(
        "relu",
        torch.relu,
        lambda z: (z > 0).to(z.dtype),
        torch.zeros_like,
        (Form("relu", Tensor.relu_, _relu_slope, curve=(0.0, 0.0)),),
    ),
    Activation(
        "gaussian",
        _gaussian,
        lambda z: -z * _gaussian(z),
        lambda z: (z**2 - 1.0) * _gaussian(z),
    ),
    Activation(
        "quadratic",
        lambda z: z**2,
        lambda z: 2.0 * z,
        lambda z: torch.full_like(z, 2.0),
    ),
    Activation(
        "linear",
        lambda z: z,
        torch.ones_like,
        torch.zeros_like,
        (Form("linear", lambda z: z, lambda a, s: a, curve=(0.0, 0.0)),),
    ),
    Activation(
        "arctan",
        torch.atan,
        lambda z: 1.0 / (1.0 + z**2),
        lambda z: -2.0 * z / (1.0 + z**2) ** 2,
    ),
    Activation("sin", torch.sin, torch.cos, lambda z: -torch.sin(z)),
    Activation(
        "cos",
        torch.cos,
        lambda z: -torch.sin(z),
        lambda z: -torch.cos(z),
    ),
    Activation(
        "gelu",
        lambda z: 0.5 * z * (1.0 + torch.erf(z / math.sqrt(2.0))),
        lambda z: (
            0.5 * (1.0 + torch.erf(z / math.sqrt(2.0)))
            + z * _gaussian(z) / math.sqrt(2.0 * math.pi)
        ),
        lambda z: (2.0 - z**2) * _gaussian(z) / math.sqrt(2.0 * math.pi),
    ),
)


def activation(sigma: str | Activation) -> Activation:
    r"""Return the activation of that name.

    Parameters
    ----------
    sigma : str or Activation
        A key of :data:`ACTIVATIONS`; an :class:`Activation` is returned as it is.

    Returns
    -------
    Activation

    Raises
    ------
    ValueError
        If no activation has that name; the message lists those that exist.

    Examples
    --------
    >>> activation("tanh").df(torch.tensor(0.0))
    tensor(1.)
    """
    if isinstance(sigma, Activation):
        return sigma
    if not isinstance(sigma, str) or sigma not in ACTIVATIONS:
        known = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"sigma: no activation {sigma!r}; choose one of {known}")
    return ACTIVATIONS[sigma]


@cache
def _amd_with_avx2() -> bool:
    with contextlib.suppress(OSError):
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
        first = {name.strip(): value.split() for name, _, value in reversed(lines)}
        return first.get("vendor_id") == ["AuthenticAMD"] and "avx2" in first.get("flags", [])
    return False


def tanh_form() -> str:
    """Return how the passes through depth evaluate tanh here: ``"tanh"`` or ``"sigmoid"``.

    Torch's tanh is a vector routine of MKL, which takes its slowest kernel on processors
    that are not Intel's; its sigmoid is its own. So AMD's processors with AVX2 take the
    sigmoid and all others tanh, unless the variable MFLIB_TANH names one of the two. A
    timing never decides: the same machine gives the same bits.

    Raises
    ------
    ValueError
        If the variable holds another word.
    """
    chosen = os.environ.get("MFLIB_TANH")
    if chosen:
        if chosen not in ("tanh", "sigmoid"):
            raise ValueError(f"MFLIB_TANH: is {chosen!r}; set it to tanh or to sigmoid")
        return chosen
    return "sigmoid" if _amd_with_avx2() else "tanh"


def form(sigma: Activation, bound: float | None = None) -> Form:
    r"""Return the way to evaluate an activation in place.

    Parameters
    ----------
    sigma : Activation
        Which one.
    bound : float, optional
        A bound of the preactivations' size, where one is known.

    Returns
    -------
    Form
        Its value and slope are exact to rounding. One exception has a reason: on processors
        where it is twice as fast, tanh is made from the sigmoid, exact to the rounding of 1
        and not of a small tanh. It is not taken where all preactivations lie below 0.1, and
        the choice depends on the processor's maker alone
        (:func:`tanh_form`), so a machine always gives the same bits.

    Examples
    --------
    >>> form(activation("tanh"), bound=0.01).name
    'tanh'
    """
    require_instance("sigma", sigma, Activation)
    small = bound is not None and require_number("bound", bound) < _SMALL
    if not sigma.forms:

        def state(z: Tensor, slope: Tensor) -> None:
            slope.copy_(sigma.df(z))
            z.copy_(sigma.f(z))

        return Form(sigma.name, state, _times, tiles=2)
    if sigma.forms is _TANH and not small and tanh_form() == "sigmoid":
        return sigma.forms[1]
    return sigma.forms[0]
