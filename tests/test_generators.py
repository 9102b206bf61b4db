"""Every random number comes from the generator that was given, and no two draws are one.

The functions that take a generator are read from the code. While one runs, the random
functions of torch are watched: each must be handed the caller's own generator, for a draw
from another one would be the same whatever the seed.
"""

import inspect

import pytest
import torch
from problems import randn
from test_fuzz import GIVEN, Zoo, good, modules, shapes_said

from mflib.activations import activation
from mflib.chen2024.mean_field_limit import GaussianLaw
from mflib.chen2024.network import initial_particles
from mflib.chen2024.sign_teacher import SignTeacher
from mflib.chen2024.spirals import SpiralNet, initial
from mflib.digits import digits
from mflib.fang2021.initialisation import correlated_normals, standard_features
from mflib.fang2021.picard import WeightSpace
from mflib.fang2021.universality import adversary
from mflib.lu2020.algorithm_one import RULES
from mflib.rademacher import random_signs
from mflib.sampling import independent_layers, sobol_gaussian, wave_measure

DRAWS = ("rand", "randn", "randint", "randperm", "multinomial", "normal", "bernoulli")


def takers():
    """Yield name, owner and function of everything public that takes a generator."""
    for module in modules():
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            full = f"{module.__name__}.{name}".removeprefix("mflib.")
            members = vars(thing).items() if inspect.isclass(thing) else ()
            parts = [(full, None, thing)] if inspect.isfunction(thing) else []
            parts += [(f"{full}.{k}", thing, v) for k, v in members if not k.startswith("_")]
            for label, owner, part in parts:
                function = part.__func__ if isinstance(part, classmethod) else part
                if inspect.isfunction(function):
                    if "generator" in inspect.signature(function).parameters:
                        yield label, owner, part


def law(zoo):
    return GaussianLaw(lambda depth: depth * torch.ones(5).double(), randn(5, 5))


def space(zoo):
    return WeightSpace(zoo.net, 5)


#: What the function draws only with these arguments, or what its method needs.
MORE = {
    "lu2020.algorithm_one.train": lambda zoo: dict(
        problem=zoo.problem,
        theta=randn(3, zoo.block.k),
        rule=RULES["others move"],
        steps=2,
        time_step=0.1,
        rate=1.0,
    ),
    "chen2024.spirals.train_spirals": lambda zoo: dict(shuffle=True),
    "chen2024.mean_field_limit.GaussianLaw.curves": lambda zoo: dict(shared=0.5),
    "chen2024.sign_teacher.SignTeacher.sample": lambda zoo: dict(d=3),
    "fang2021.initialisation.correlated_normals": lambda zoo: dict(share=0.5),
    "fang2021.initialisation.standard_features": lambda zoo: dict(m=5, share=0.5),
    "fang2021.picard.WeightSpace.curvature": lambda zoo: dict(u=randn(2, 65), sweeps=2),
    "fang2021.path_law.path_grams": lambda zoo: dict(points=16),
    "fang2021.universality.Adversary.least": lambda zoo: dict(starts=2),
    "sampling.sobol_gaussian": lambda zoo: dict(points=4, mirrored=1, batch=(2,)),
    "digits.conditioned_digits": lambda zoo: dict(n=2, d=3, floor=0.01, batch=(2,)),
}
OWNERS = {
    "GaussianLaw": law,
    "WeightSpace": space,
    "Adversary": lambda zoo: adversary(randn(3, 2), activation("tanh"), 0.3),
}


def arguments_of(full, owner, part):
    """Yield sets of arguments, and what to call with them."""
    for attempt in range(30):
        zoo = Zoo(attempt, full.split(".")[0])
        call = part
        if owner is not None:
            made = owner
            if not isinstance(part, classmethod):
                made = OWNERS.get(owner.__name__, lambda z: z.of_type(owner.__name__, ""))(zoo)
            call = getattr(made, full.rsplit(".", 1)[-1])
        import random

        rng, said = random.Random(attempt), shapes_said(call)
        parameters = inspect.signature(call).parameters
        found = {n: good(n, p, zoo, said, rng) for n, p in parameters.items()}
        found |= GIVEN[full](zoo) if full in GIVEN else {}
        found |= MORE[full](zoo) if full in MORE else {}
        yield call, found


TAKERS = [pytest.param(*row, id=row[0]) for row in takers()]


@pytest.mark.parametrize(("full", "owner", "part"), TAKERS)
def test_every_draw_is_from_the_generator_that_was_given(monkeypatch, full, owner, part):
    seen = []

    def watched(original):
        def draw(*sizes, **named):
            seen.append(named.get("generator"))
            return original(*sizes, **named)

        return draw

    for call, found in arguments_of(full, owner, part):
        mine = torch.Generator().manual_seed(5)
        with monkeypatch.context() as patch:
            for name in DRAWS:
                patch.setattr(torch, name, watched(getattr(torch, name)))
            seen.clear()
            try:
                call(**found | {"generator": mine})
            except (ValueError, TypeError):
                continue
        assert seen, "nothing was drawn; give arguments with which something is"
        assert all(each is mine for each in seen)
        return
    pytest.fail(f"{full}: no good arguments in 30 tries")


def make(seed=0):
    return torch.Generator().manual_seed(seed)


def different(parts):
    """Whether no two of several tensors agree anywhere."""
    parts = list(parts)
    return all((a != b).all() for k, a in enumerate(parts) for b in parts[k + 1 :])


def test_layers_and_members_of_a_batch_have_draws_of_their_own():
    theta, omega = initial_particles(2, 3, 4, 6, make(), batch=(2,))
    assert different(theta.flatten(0, 1)) and different(omega)
    points = sobol_gaussian(8, 3, make(), 1, (3,))
    assert different(points)
    assert different(wave_measure(3, 2, make(), batch=(2,)).at(0.3)[0])
    teachers = SignTeacher.sample(3, make(), ridges=2, batch=(3,)).directions
    assert different(teachers)
    layered = law(None).layers(3, 4, make()).theta
    assert different(layer - k / 3 for k, layer in enumerate(layered.unbind(-3)))
    assert different(initial(SpiralNet(2, 3), make(), (2,))[0])
    x, _ = digits(6, 3, make(), batch=(2,))
    assert (x[0] != x[1]).any()
    net = Zoo(0, "fang2021").net
    _, middle, _ = standard_features(net, 5, make(), batch=(2,))
    assert different([v for layer in middle for v in layer.v])
    assert different(correlated_normals((2, 3, 4), make(), 0.5).flatten(0, 1))


def test_signs_are_independent_over_inputs_and_over_draws():
    signs = random_signs(6, 4000, make())
    gram = signs.mT @ signs / 4000
    assert (gram - torch.eye(6).double()).abs().max() < 0.1
    rows = random_signs(4000, 6, make(1))
    assert (rows @ rows.mT / 4000 - torch.eye(6).double()).abs().max() < 0.1


def test_independent_layers_differ_in_depth_and_in_the_particle_that_is_picked():
    curve = wave_measure(4, 2, make())
    one, two = (independent_layers(curve, 64, make(s)).theta for s in (0, 1))
    assert (one != two).any()
    again = independent_layers(curve, 64, make()).theta
    assert torch.equal(one, again)
