import pytest
import torch
from problems import DOUBLE

from mflib.beyond.best_rate import best_rate

RATES = 2.0 ** torch.arange(-3, 4, dtype=DOUBLE)


def test_the_vertex_of_a_parabola_is_found_exactly_for_every_member_of_a_batch():
    at = torch.tensor([[-1.3, 0.2], [1.49, 0.0]], dtype=DOUBLE)
    losses = torch.exp(0.7 * (RATES.log2() - at.unsqueeze(-1)) ** 2 - 2)
    torch.testing.assert_close(best_rate(RATES, losses).log2(), at)


def test_a_factor_of_the_losses_and_of_the_rates_comes_through():
    losses = (RATES - 1.1) ** 2 + 0.3 + 0.1 * RATES
    one = best_rate(RATES, losses)
    torch.testing.assert_close(best_rate(3 * RATES, 7 * losses), 3 * one)


@pytest.mark.parametrize(
    ("rates", "losses", "message"),
    [
        (RATES, RATES, "losses: least at an end"),
        (RATES.flip(0), RATES, "rates: expected at least 3 increasing"),
        (RATES[:2], RATES[:2], "rates: expected at least 3"),
        (torch.linspace(1, 2, 7, dtype=DOUBLE), RATES, "rates: must increase by one factor"),
        (RATES, -RATES, "losses: must be positive"),
        (RATES, RATES[:3], "losses: last dimension"),
    ],
)
def test_ranges_that_hold_no_minimum_are_refused(rates, losses, message):
    with pytest.raises(ValueError, match=message):
        best_rate(rates, losses)
