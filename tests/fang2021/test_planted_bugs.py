"""Plant a bug in the room, run the first claims of a chapter, and see one notice it."""

from dataclasses import replace

import pytest
import torch
from test_planted_bugs import verdicts

from mflib.fang2021 import initialisation
from mflib.fang2021.connections import LowRank
from mflib.fang2021.network import Network


def flow():
    return verdicts("feature_flow", "FANG-SKIP", images=3)


def collapse():
    return verdicts("feature_collapse", "squares(m, regress", seed=1)


def refuted(result):
    return {name for name, checks in result.items() if "refuted" in checks}


def test_without_a_bug_nothing_is_refuted():
    assert not refuted(flow())


def swapped(self, f, mass):
    return ((f * mass.unsqueeze(-2)) @ self.b.mT) @ self.a


def half_step(original):
    def step(self, w, g, eta):
        return original(self, w, replace(g, middle=tuple((s, t / 2) for s, t in g.middle)), eta)

    return step


def one_layer_below(original):
    def drift(self, f, c):
        g = original(self, f, c)
        first = self.h1.f(f.beta[0])
        return replace(g, middle=tuple((first, t) for _, t in g.middle))

    return drift


def without_the_bend(original):
    def feature_drift(self, w, f, g):
        flat = tuple(torch.zeros_like(a) for a in f.alpha)
        return original(self, w, replace(f, alpha=flat), g)

    return feature_drift


@pytest.mark.parametrize(
    ("owner", "name", "bug", "claim"),
    [
        (LowRank, "forward", lambda _: swapped, "FANG-ALG1"),
        (Network, "drift", one_layer_below, "FANG-ALG1"),
        (Network, "step", half_step, "FANG-DEF2"),
        (Network, "feature_drift", without_the_bend, "FANG-DEF2"),
    ],
)
def test_a_wrong_pass_is_noticed(monkeypatch, owner, name, bug, claim):
    monkeypatch.setattr(owner, name, bug(getattr(owner, name)))
    assert claim in refuted(flow())


def test_a_wrong_regression_is_noticed(monkeypatch):
    right = initialisation.regression

    def doubled(values, alpha, mass=None, ridge=0.0):
        v = right(values, alpha, mass, ridge)
        return LowRank._of(v.a, 1.001 * v.b)

    monkeypatch.setattr(initialisation, "regression", doubled)
    with pytest.raises(AssertionError):
        assert not refuted(collapse())
