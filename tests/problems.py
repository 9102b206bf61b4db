"""Problems with exact answers, shared by the tests."""

from __future__ import annotations

import math

import torch

from mflib.blocks import MatrixBlock
from mflib.measures import LayeredMeasure

DOUBLE = torch.float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=DOUBLE)


def constant(matrix: list[list[float]], layers: int = 1) -> LayeredMeasure:
    """One particle, the same matrix at every depth."""
    theta = torch.tensor(matrix, dtype=DOUBLE).flatten().expand(layers, 1, -1)
    return LayeredMeasure(theta.contiguous())


def linear_growth(theta: float) -> tuple[MatrixBlock, LayeredMeasure, float]:
    """x' = theta x: the flow multiplies by exp(theta)."""
    return MatrixBlock(1, "linear"), constant([[theta]]), math.exp(theta)


def tanh_flow(theta: float, x0: float) -> tuple[MatrixBlock, LayeredMeasure, float]:
    """x' = tanh(theta x): sinh(theta x) = exp(theta) sinh(theta x0)."""
    exact = math.asinh(math.exp(theta) * math.sinh(theta * x0)) / theta
    return MatrixBlock(1, "tanh"), constant([[theta]]), exact


def rotation(angle: float) -> tuple[MatrixBlock, LayeredMeasure, torch.Tensor]:
    """x' = angle J x: the flow rotates."""
    block = MatrixBlock(2, "linear")
    exact = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
        dtype=DOUBLE,
    )
    return block, constant([[0.0, -angle], [angle, 0.0]]), exact
