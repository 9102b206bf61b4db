"""Plant a bug in the library, run a chapter's cells, and see a claim notice it."""

import json
import re

import matplotlib
import pytest
import torch
from conftest import ROOT

import mflib.blocks
import mflib.chen2024.network
import mflib.gram
import mflib.neurons
import mflib.problem
import mflib.sweep

matplotlib.use("Agg")


def verdicts(chapter, stop, **parameters):
    """Run a chapter's code up to the cell that holds `stop`; return check verdicts by claim."""
    text = (ROOT / "notebooks" / f"{chapter}.ipynb").read_text("utf-8")
    scope, claims = {"__name__": "chapter"}, {}
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "plt.subplots" in source:
            continue
        if stop in source:
            break
        # the last line shows the claim; a script does not
        exec(re.sub(r"\nclaim$", "", source), scope)
        if "parameters" in cell["metadata"].get("tags", ()):
            scope |= parameters
        if "claim" in scope:
            claims[scope["claim"].id] = scope["claim"]
    return {name: [c.verdict for c in claim.checks] for name, claim in claims.items()}


def energy():
    return verdicts("energy_identity", "time = 0.1", images=4)


def first_variation():
    return verdicts("adjoint", "lambdas = 0.04", images=6, particles=2)


def test_without_a_bug_nothing_is_refuted():
    for result in (energy(), first_variation()):
        assert not any("refuted" in checks for checks in result.values())


def wrap(monkeypatch, owner, name, change):
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *a, **k: change(original, *a, **k))


def sign_of_the_adjoint(monkeypatch):
    pull = mflib.neurons.Neurons.pull
    monkeypatch.setattr(
        mflib.neurons.Neurons, "pull", lambda self, i, z, q, base, h: pull(self, i, z, q, base, -h)
    )


def adjoint_at_the_start(monkeypatch):
    backward = mflib.sweep.backward

    def shifted(kernel, stages, p, table):
        rows, costates = backward(kernel, stages, p, table)
        # Runge-Kutta stages keep their own costates: spoil the Euler runs only
        return rows, costates if len(table.b) > 1 else rows[:-1]

    monkeypatch.setattr(mflib.sweep, "backward", shifted)


@pytest.mark.parametrize("bug", [sign_of_the_adjoint, adjoint_at_the_start])
@pytest.mark.parametrize("chapter", [energy, first_variation])
def test_a_wrong_adjoint_is_noticed(monkeypatch, bug, chapter):
    bug(monkeypatch)
    assert any("refuted" in checks for checks in chapter().values())


def half(original, *arguments, **options):
    value = original(*arguments, **options)
    return value / 2 if isinstance(value, torch.Tensor) else tuple(v / 2 for v in value)


@pytest.mark.parametrize(
    ("owner", "name", "chapter"),
    [
        (mflib.neurons.Neurons, "gathered", energy),
        (mflib.neurons.Neurons, "field", energy),
        (mflib.blocks.NeuronBlock, "pairing", energy),
        (mflib.chen2024.network.ScaledResNet, "velocity", energy),
        (mflib.chen2024.network.ScaledResNet, "encoder_derivative", energy),
        (mflib.chen2024.network.ScaledResNet, "predictor_derivative", energy),
        (mflib.gram, "neuron_gram", energy),
        (mflib.neurons.Neurons, "pull", first_variation),
        (mflib.neurons.Neurons, "gathered", first_variation),
        (mflib.problem.Problem, "pairing", first_variation),
        (mflib.problem.Problem, "gradient", first_variation),
    ],
    ids=lambda v: v if isinstance(v, str) else getattr(v, "__name__", ""),
)
def test_a_dropped_factor_is_noticed(monkeypatch, owner, name, chapter):
    wrap(monkeypatch, owner, name, half)
    assert any("refuted" in checks for checks in chapter().values())


@pytest.mark.parametrize("scale", ["alpha", "beta"])
def test_a_scaling_left_out_of_the_backward_pass_is_noticed(monkeypatch, scale):
    def without(original, self, theta, omega, passed):
        plain = mflib.chen2024.network.ScaledResNet(
            self.dim, self.sigma, **({"alpha": self.alpha, "beta": self.beta} | {scale: 1.0})
        )
        return original(plain, theta, omega, passed)

    wrap(monkeypatch, mflib.chen2024.network.ScaledResNet, "velocity", without)
    assert "refuted" in energy()["CHEN-E13"]
