"""Numbers in prose come from the ledger, with the digits that their intervals support."""

import pytest

from mflib.book import numbers
from mflib.book.sphinx.execution import dressed
from mflib.book.sphinx.pictures import alternative
from mflib.claims import ClaimError


def check(name, measured, interval=None, **more):
    return {
        "name": name,
        "kind": "rate",
        "measured": measured,
        "interval": interval,
        "predicted": -0.5,
        "tolerance": 0.05,
        "verdict": "verified",
        "details": {},
    } | more


CLAIMS = {
    "A-1": {
        "id": "A-1",
        "verdict": "verified",
        "deciding": "slope in n",
        "checks": [
            check("slope in m", -1.25, [-1.3, -1.2]),
            check("slope in n", -0.5012, [-0.5113, -0.4912]),
            check("slope in n, small r", -0.75),
            check("never", None),
        ],
        "controls": [check("copies", -0.01234, [-0.013, -0.012])],
    },
    "A-2": {"id": "A-2", "verdict": "not run", "checks": [], "controls": []},
}


@pytest.mark.parametrize(
    "role, text, words",
    [
        ("measured", "A-1", "-0.50"),
        ("measured", "A-1: slope in n", "-0.50"),
        ("measured", "A-1: small r", "-0.75"),
        ("measured", "A-1: slope in m", "-1.25"),
        ("interval", "A-1: slope in m", "[-1.30, -1.20]"),
        ("interval", "A-1: small r", "-0.75"),
        ("predicted", "A-1: slope in m", "-0.5 ± 0.05"),
        ("measured", "A-1: control: copies", "-0.0123"),
        ("verdict", "A-1", "verified"),
        ("measured", "A-2: anything", "not run"),
    ],
)
def test_a_role_says_what_the_ledger_holds(role, text, words):
    claim, found = numbers.look_up(CLAIMS, role, text)
    assert found == words and claim["id"] == text[:3]


@pytest.mark.parametrize(
    "text, message",
    [
        ("A-3", "no claim 'A-3'"),
        ("A-1: slope", "3 checks of A-1 fit 'slope'.*slope in m; slope in n"),
        ("A-1: nothing", "0 checks of A-1 fit 'nothing'"),
        ("A-1: never", "one that is measured is needed"),
        ("A-1: control: pastes", "0 controls of A-1 fit 'pastes', .*there are: copies"),
    ],
)
def test_a_number_that_the_ledger_does_not_hold_is_an_error(text, message):
    with pytest.raises(ClaimError, match=message):
        numbers.look_up(CLAIMS, "measured", text)


def test_a_figure_gets_its_caption_as_alternative_text_without_markup():
    caption = "Slope of $p(x, 0)$,\nsee {prf:ref}`the lemma <lem>` and {cite}`lu2020`."
    assert alternative(caption) == "Slope of p(x, 0), see the lemma and lu2020."
    shown = (
        '{"cells": [{"cell_type": "code", "source": "", "metadata": '
        '{"mystnb": {"figure": {"caption": "A $b$."}}}}]}'
    )
    made = dressed(shown, "## Rerun")
    assert '"alt": "A b."' in made and "## Rerun" in made
