from dataclasses import dataclass

import pytest
import torch
from problems import DOUBLE, randn

from mflib.stepping import (
    METHODS,
    State,
    chebyshev_step,
    runge_kutta_stages,
    runge_kutta_step,
    tableau,
)


@dataclass(frozen=True)
class Pair(State):
    inner = {"a": 2, "b": 1, "c": 1}
    a: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor | None = None
    note: str = "none"


def pair(seed=0, batch=(3,)):
    return Pair(randn(*batch, 4, 2, seed=seed), randn(*batch, 5, seed=seed + 1), note="seen")


def test_the_tables_satisfy_the_order_conditions():
    for method in METHODS.values():
        b, c = torch.tensor(method.b), torch.tensor(method.c)
        assert float(b.sum()) == pytest.approx(1.0)
        assert [sum(row) for row in method.a] == pytest.approx(list(method.c))
        for q in range(1, method.order):
            assert float((b * c**q).sum()) == pytest.approx(1 / (q + 1))


def test_every_member_of_a_batch_is_scaled_by_its_own_number():
    h, x = torch.tensor([0.5, -1.0, 2.0], dtype=DOUBLE), pair()
    scaled = x * h
    for i in range(3):
        torch.testing.assert_close(scaled.a[i], float(h[i]) * x.a[i])
        torch.testing.assert_close(scaled.b[i], float(h[i]) * x.b[i])
    assert scaled.c is None and scaled.note == "none"  # what is no part takes its default


def test_a_step_size_may_bring_the_batch():
    moved = pair(batch=()) * torch.tensor([1.0, 2.0], dtype=DOUBLE)
    assert moved.a.shape == (2, 4, 2) and moved.b.shape == (2, 5)
    torch.testing.assert_close(moved.a[1], 2 * pair(batch=()).a)


def test_members_are_taken_put_back_and_chosen():
    x, y = pair(), pair(7)
    index = torch.tensor([2, 0])
    torch.testing.assert_close(x.put(index, y[index]).a, torch.stack([y.a[0], x.a[1], y.a[2]]))
    chosen = x.where(torch.tensor([True, False, True]), y)
    torch.testing.assert_close(chosen.b, torch.stack([x.b[0], y.b[1], x.b[2]]))
    torch.testing.assert_close((x + (y - x)).a, y.a)


@pytest.mark.parametrize("method", list(METHODS))
def test_a_state_steps_as_its_tensors_do(method):
    x, h = pair(), 0.3

    def coupled(q):
        return Pair(-q.a * q.b.sum(-1)[..., None, None], q.a.sum((-1, -2))[..., None] - q.b)

    flat = torch.cat([x.a.flatten(1), x.b], 1)

    def together(v):
        rate = coupled(Pair(v[:, :8].reshape(3, 4, 2), v[:, 8:]))
        return torch.cat([rate.a.flatten(1), rate.b], 1)

    end = runge_kutta_step(coupled, x, h, method)
    expected = runge_kutta_step(together, flat, h, method)
    torch.testing.assert_close(torch.cat([end.a.flatten(1), end.b], 1), expected)


def test_one_velocity_a_stage_is_used_in_its_place():
    x = randn(3)
    rates = [randn(3, seed=s) for s in range(4)]
    end, stages = runge_kutta_stages([lambda q, r=r: r for r in rates], x, 0.6)
    table = tableau("rk4")
    whole = sum(b * r for b, r in zip(table.b, rates, strict=True))
    torch.testing.assert_close(end, x + 0.6 * whole)
    for stage, row in zip(stages, table.a, strict=True):
        part = sum(a * r for a, r in zip(row, rates, strict=False))
        torch.testing.assert_close(stage, x + 0.6 * part)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tableau("heun"), "method: no 'heun'"),
        (lambda: runge_kutta_step([torch.neg], randn(2), 0.1), "velocity: 1 callables for the 4"),
        (lambda: chebyshev_step(torch.neg, randn(2), 0.1, 0), "stages"),
        (lambda: chebyshev_step(torch.neg, randn(2), float("nan"), 2), "h: expected a finite"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
