r"""The Gram matrix that drives the output along the flow.

.. math::

    \dot\beta_{L+1} = -\tfrac1N\,G\,D_{L+1}, \qquad
    G = \tfrac1d XX^\top\circ\!\int\! E_1E_1^\top dp
      + \sum_{\ell=2}^{L} \int h_1h_1^\top(\beta_{\ell-1})\,dp\circ\!\int\! E^\alpha_\ell
        (E^\alpha_\ell)^\top dp
      + \int h_1h_1^\top(\beta_L)\,dp,

with E the costates of the output itself. Every term is positive semi-definite, so G is at
least its last term, the Gram matrix of the features.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..arguments import require_instance
from .initialisation import feature_gram
from .losses import Loss
from .network import Features, Network, Weights

__all__ = ["tangent_gram"]

_OUTPUT = Loss("output", lambda z, y: z, lambda z, y: torch.ones_like(z))


def tangent_gram(net: Network, w: Weights, f: Features) -> Tensor:
    r"""Return G at the weights `w` with forward pass `f`, shape (..., N, N)."""
    require_instance("net", net, Network)
    net.fits(w, require_instance("f", f, Features))
    e = replace(net, loss=_OUTPUT).backward(w, f)
    gram = feature_gram(net.h1.f(f.beta[-1]), w.mass)
    gram = gram + net.x @ net.x.mT / net.x.shape[-1] * feature_gram(e.beta[0], w.mass)
    for below, costate in zip(f.beta[:-1], e.alpha, strict=True):
        gram = gram + feature_gram(net.h1.f(below), w.mass) * feature_gram(costate, w.mass)
    return gram
