import math

import pytest
import torch
from problems import DOUBLE

from mflib.blocks import MatrixBlock
from mflib.lu2020.dormant import LINEAR, SHIFTED_SIGMOID, dormant_gap
from mflib.measures import LayeredMeasure
from mflib.problem import Problem

CASES = {
    "linear": (LINEAR, [1.0, 1.7, 2.0], [[1.5, 1.3], [1.32, 1.45]], 2.0),
    "shifted sigmoid": (SHIFTED_SIGMOID, [0.02, 0.05, 0.1], [[4.7, 1.7], [4.6, 1.9]], 5.0),
}
LAYERS = 16


def by_floats(name, awake):
    """Loss, and the smallest change of the first variation over a grid of rows."""
    _, x, teacher, R = CASES[name]
    x = torch.tensor(x, dtype=DOUBLE)[:, None]
    lift = torch.tensor([[1.0], [0.0]], dtype=DOUBLE)
    rho = LayeredMeasure(torch.tensor([[[R, 0.0, awake, 0.0]]], dtype=DOUBLE).expand(LAYERS, 1, 4))
    target = LayeredMeasure(
        torch.tensor(teacher, dtype=DOUBLE).flatten().expand(LAYERS, 1, 4).contiguous()
    )
    block = MatrixBlock(2, name)
    y = Problem(block, x, x[:, 0], lift=lift, steps=LAYERS).flow(target).X[-1, :, 0]
    task = Problem(block, x, y, lift=lift, steps=LAYERS)
    angle = torch.linspace(-math.pi, math.pi, 2001, dtype=DOUBLE)
    rows = torch.zeros(2001, 4, dtype=DOUBLE)
    rows[:, 0], rows[:, 1], rows[:, 2] = R * angle.cos(), R * angle.sin(), awake
    change = task.derivative(rho, rows) - task.derivative(rho, rho.theta[0])
    return float(task.loss(rho)), float(change.min())


@pytest.mark.parametrize("name", CASES)
def test_a_dormant_student_has_no_lower_parameter_exactly(name):
    found = dormant_gap(*CASES[name], layers=LAYERS)
    assert found.gap.a == 0 and found.gap.b == 0 and found.loss.a > 0


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("awake", [0.0, 0.5])
def test_the_enclosures_hold_what_the_network_gives(name, awake):
    found, (loss, least) = dormant_gap(*CASES[name], awake, LAYERS), by_floats(name, awake)
    assert float(found.loss.a) - 1e-12 <= loss <= float(found.loss.b) + 1e-12
    assert float(found.loss.b - found.loss.a) < 1e-9
    assert float(found.gap.a) - 1e-9 <= least <= float(found.gap.b) + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_a_student_that_is_awake_has_a_lower_parameter(name):
    found = dormant_gap(*CASES[name], 0.5, LAYERS)
    assert found.gap.b < 0
    # what was tried is nearly the best row of the grid
    assert float(found.gap.b) < 0.8 * by_floats(name, 0.5)[1]


def test_a_student_above_its_teacher_wants_to_turn_back():
    # the residual is positive: the student is now the worst parameter
    found = dormant_gap(LINEAR, [1.0, 2.0], [[0.5, 0.0], [0.0, 0.5]], 2.0, layers=LAYERS)
    assert found.gap.b < 0


@pytest.mark.parametrize(
    "change",
    [{"x": []}, {"x": [1.0, -1.0]}, {"radius": 0.0}, {"radius": math.nan}, {"layers": 0}],
)
def test_bad_input_names_the_argument(change):
    given = {"x": [1.0], "radius": 2.0, "layers": 4} | change
    with pytest.raises(ValueError, match=next(iter(change))):
        dormant_gap(LINEAR, given["x"], [[1.4, 1.4]] * 2, given["radius"], layers=given["layers"])
