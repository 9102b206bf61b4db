import pytest
import torch
from problems import generator

from mflib.digits import conditioned_digits, digits
from mflib.kernels import population_gram


def test_all_digits_have_unit_mean_square_and_uncorrelated_coordinates():
    x, y = digits(1797, 5, generator())
    assert float(x.square().mean()) == pytest.approx(1.0)
    covariance = x.T @ x / len(x)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-12
    assert x.mean(0).abs().max() < 1e-12
    assert set(y.tolist()) == {-1.0, 1.0}


def test_standardised_labels_have_mean_zero_and_variance_one():
    _, y = digits(1797, 2, generator(), labels="value")
    assert float(y.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(y.std()) == pytest.approx(1.0)


def test_inputs_on_the_sphere_have_norm_one():
    x, _ = digits(50, 4, generator(), sphere=True)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(50, dtype=torch.float64))


def test_draws_are_without_replacement_and_follow_the_seed():
    x, _ = digits(200, 10, generator(1))
    assert len(torch.unique(x, dim=0)) == 200
    assert torch.equal(x, digits(200, 10, generator(1))[0])
    batch, _ = digits(20, 3, generator(), batch=(4,))
    assert batch.shape == (4, 20, 3) and not torch.equal(batch[0], batch[1])


def test_a_reduced_image_agrees_with_scikit_learn():
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    pixels = load_digits().data
    pixels = pixels[:, pixels.std(0) > 0]
    pixels = (pixels - pixels.mean(0)) / pixels.std(0, ddof=1)
    reference = PCA(3, svd_solver="full").fit_transform(pixels)
    reference /= (reference**2).mean() ** 0.5
    order = generator(3)
    x, _ = digits(1797, 3, order)
    mine = x.abs().sort(0).values
    torch.testing.assert_close(
        mine, torch.as_tensor(reference).abs().sort(0).values, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1798, 2), "n: expected.*got 1798"),
        ((5, 62), "d: expected.*got 62"),
        ((0, 2), "n: expected"),
    ],
)
def test_impossible_sizes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        digits(*arguments, generator())


def test_unknown_labels_are_named():
    with pytest.raises(ValueError, match="labels.*parity"):
        digits(5, 2, generator(), labels="colour")


def test_the_problems_are_digits_on_the_sphere_above_the_floor():
    x, y = conditioned_digits(4, 3, 0.1, generator(), (7,))
    assert x.shape == (7, 4, 3) and y.shape == (7, 4)
    torch.testing.assert_close(x.norm(dim=-1), torch.ones(7, 4).double())
    assert set(y.flatten().tolist()) == {-1.0, 1.0}
    assert (torch.linalg.eigvalsh(population_gram(x))[:, 0] > 0.0999).all()


def test_a_seed_gives_the_same_problems():
    one, two, other = (conditioned_digits(4, 3, 0.1, generator(s), (3,)) for s in (1, 1, 2))
    assert torch.equal(one[0], two[0]) and not torch.equal(one[0], other[0])


def test_an_impossible_floor_is_named():
    with pytest.raises(ValueError, match="floor: only 0 of 1 problems exceed 9.0"):
        conditioned_digits(4, 3, 9.0, generator())
    with pytest.raises(ValueError, match="batch"):
        conditioned_digits(4, 3, 0.1, generator(), (0,))
