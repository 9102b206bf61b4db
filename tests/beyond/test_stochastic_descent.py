import pytest
import torch
from problems import generator, randn

from mflib.beyond.stochastic_descent import stochastic_descent

X, Y = randn(5, 3), randn(5, seed=1)


def test_one_sample_is_gradient_descent_with_the_scaled_step():
    w = randn(2, 7, 3, seed=2)
    x, y = X[:1], Y[:1]
    free = w.clone().requires_grad_(True)
    f = torch.tanh(free @ x[0]).mean(-1)
    (g,) = torch.autograd.grad(0.5 * (f - y).square().sum(), free)
    step = 0.3 * 7 ** (0.6 - 1)
    found = stochastic_descent(w, x, y, 0.6, 1.4 * step, generator(), 0.3)  # one step
    torch.testing.assert_close(found, w - step * 7 * g)


def test_members_have_streams_of_their_own_and_the_mean_step_is_the_full_gradient():
    w = randn(4, 3, seed=2).expand(20000, 4, 3)
    moved = stochastic_descent(w, X, Y, 1.0, 1.0, generator()) - w
    assert len(torch.unique(moved[:, 0, 0])) == 5  # one of the samples each
    z = torch.tanh(w[0] @ X.mT)
    full = -((z.mean(0) - Y) * (1 - z**2)) @ X / 5
    torch.testing.assert_close(moved.mean(0), full, rtol=0.1, atol=0.02)


def test_the_number_of_steps_grows_as_the_step_falls():
    w = randn(16, 3, seed=2)
    half = stochastic_descent(w, X, Y, 0.5, 2.0, generator())  # 8 steps of 1/4
    again = w
    g = generator()
    for _ in range(8):
        again = stochastic_descent(again, X, Y, 0.5, 0.25, g)
    torch.testing.assert_close(half, again)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (dict(beta=1.2), "beta: "),
        (dict(time=-1.0), "time: "),
        (dict(gamma=0.0), "gamma: "),
        (dict(y=Y[:3]), "y: "),
        (dict(x=X[:, :2]), "x: "),
    ],
)
def test_impossible_arguments_are_refused(change, word):
    good = dict(w=randn(4, 3), x=X, y=Y, beta=0.5, time=1.0, generator=generator())
    with pytest.raises(ValueError, match=word):
        stochastic_descent(**good | change)
