import pytest
import torch
from problems import generator

from mflib.conditioned import conditioned_digits
from mflib.kernels import population_gram


def test_the_problems_are_digits_on_the_sphere_above_the_floor():
    x, y = conditioned_digits(7, 4, 3, 0.1, generator())
    assert x.shape == (7, 4, 3) and y.shape == (7, 4)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(7, 4).double())
    assert set(y.flatten().tolist()) == {-1.0, 1.0}
    assert (torch.linalg.eigvalsh(population_gram(x))[:, 0] > 0.0999).all()


def test_a_seed_gives_the_same_problems():
    one, two, other = (conditioned_digits(3, 4, 3, 0.1, generator(s)) for s in (1, 1, 2))
    assert torch.equal(one[0], two[0]) and not torch.equal(one[0], other[0])


def test_an_impossible_floor_is_named():
    with pytest.raises(ValueError, match="floor: only 0 of 1 problems exceed 9.0"):
        conditioned_digits(1, 4, 3, 9.0, generator())
    with pytest.raises(ValueError, match="problems"):
        conditioned_digits(0, 4, 3, 0.1, generator())
