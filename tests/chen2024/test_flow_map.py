import pytest
import torch
from problems import generator, randn

from mflib.chen2024.flow_map import FlowMap
from mflib.chen2024.network import ScaledResNet, initial_particles
from mflib.chen2024.training import Particles, TrainingFlow

X = torch.nn.functional.normalize(randn(4, 2), dim=-1)
Y = randn(4, seed=1)


def start(batch=(), layers=2):
    theta, omega = initial_particles(2, layers, 6, 16, generator(), batch=batch)
    return Particles.start(theta, omega)


def training(alpha=1.5, beta=3.0, **change):
    return TrainingFlow(ScaledResNet(2, "tanh", alpha, beta), X, Y, **change)


def run(steps, batch=(), **change):
    return FlowMap.begin(training(**change), start(batch), 3, 5).advance(0.6, steps)


def test_both_routes_give_the_same_ratio_for_both_laws():
    end = run(48)
    assert end.determinant_predictor.abs().max() > 0.5
    torch.testing.assert_close(
        end.points.omega_ratio, end.determinant_predictor, rtol=1e-6, atol=1e-6
    )
    torch.testing.assert_close(
        end.points.theta_ratio, end.determinant_encoder, rtol=1e-6, atol=1e-6
    )


def test_the_routes_differ_at_order_four_in_the_step():
    gaps = []
    for steps in (6, 12):
        end = run(steps)
        gaps.append((end.points.omega_ratio - end.determinant_predictor).norm())
    assert 11 < float(gaps[0] / gaps[1]) < 24


@pytest.mark.parametrize("change", [dict(laplacian=0.0), dict(radial=-1.0)])
def test_a_wrong_generator_parts_the_routes(change):
    end = run(12, **change)
    gap = (end.points.omega_ratio - end.determinant_predictor).abs().max()
    assert gap > 0.1


def test_jacobians_and_scores_equal_five_point_differences_of_ghosts():
    end, cloud, flow, e = run(6), start(), training(), 1e-3
    offsets = torch.tensor([e, -e, 2 * e, -2 * e], dtype=torch.float64)
    stencil = torch.tensor([8.0, -8.0, -1.0, 1.0], dtype=torch.float64) / (12 * e)

    def spread(point):  # the ghosts of a particle, (4k, k)
        return (point + offsets[:, None, None] * torch.eye(len(point))).flatten(0, 1)

    ghosts = Particles.start(
        torch.stack([spread(layer[2]) for layer in cloud.theta]),
        torch.cat([spread(cloud.omega[i]) for i in (0, 4)]),
    )
    for _ in range(6):
        cloud, fields = flow.stages(cloud, 0.1)
        ghosts = flow.carry(ghosts, 0.1, fields)
    omega = torch.einsum("s,psja->paj", stencil, ghosts.omega.view(2, 4, 4, 4))
    ratio = torch.einsum("s,psj->pj", stencil, ghosts.omega_ratio.view(2, 4, 4))
    theta = torch.einsum("s,lsja->laj", stencil, ghosts.theta.view(2, 4, 5, 5))
    close = dict(rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(end.jacobian_predictor[[0, 4]], omega, **close)
    torch.testing.assert_close(end.jacobian_encoder[:, 2], theta, **close)
    score = torch.linalg.solve(omega.mT, ratio[..., None])[..., 0]
    torch.testing.assert_close(end.score_predictor[[0, 4]], score, **close)


def test_tracking_does_not_disturb_the_flow():
    end, plain = run(6), start()
    flow = training()
    for _ in range(6):
        plain = flow.step(plain, 0.1)
    torch.testing.assert_close(vars(end.particles), vars(plain))
    torch.testing.assert_close(end.points.omega, plain.omega[:5])
    torch.testing.assert_close(end.origin.theta, start().theta[:, :3])


def test_a_batch_equals_single_runs():
    together, cloud = run(4, (2,)), start((2,))
    one = Particles.start(cloud.theta[1], cloud.omega[1])
    alone = FlowMap.begin(training(), one, 3, 5).advance(0.6, 4)
    torch.testing.assert_close(together.determinant_encoder[1], alone.determinant_encoder)
    torch.testing.assert_close(together.score_predictor[1], alone.score_predictor)


def test_a_frozen_encoder_is_tracked_without_one():
    frozen = Particles.start(None, start().omega)
    end = FlowMap.begin(training(1.0), frozen, 0, 5).advance(0.4, 24)
    assert end.points.theta is None
    torch.testing.assert_close(
        end.points.omega_ratio, end.determinant_predictor, rtol=1e-6, atol=1e-6
    )


def test_bad_input_is_named():
    for counts, message in (
        ((1, 17), "predictor: only 16 particles"),
        ((0, 5), "encoder: differentiate 1 to 6"),
        ((7, 5), "encoder: differentiate 1 to 6"),
        ((1, 0), "predictor: expected an integer"),
    ):
        with pytest.raises(ValueError, match=message):
            FlowMap.begin(training(), start(), *counts)
    with pytest.raises(ValueError, match="encoder: differentiate 0 to 0"):
        FlowMap.begin(training(), Particles.start(None, start().omega), 1, 5)
