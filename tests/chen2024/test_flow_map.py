import pytest
import torch
from problems import generator, randn

from mflib.chen2024.cloud import Cloud
from mflib.chen2024.flow_map import Tracked
from mflib.chen2024.network import initial_particles
from mflib.chen2024.training import CarriedFlow

X = torch.nn.functional.normalize(randn(4, 2), dim=-1)
Y = randn(4, seed=1)


def start(batch=(), layers=2):
    theta, omega = initial_particles(2, layers, 6, 16, generator(), batch=batch)
    return Cloud.start(omega, theta)


def run(steps, batch=(), **change):
    flow = CarriedFlow(X, Y, 1.5, 3.0, **change)
    return Tracked.begin(flow, start(batch), 5, 3).advance(0.6, steps)


def test_both_routes_give_the_same_ratio_for_both_laws():
    end = run(48)
    assert end.determinant_predictor.abs().max() > 0.5
    torch.testing.assert_close(
        end.points.omega_ratio, end.determinant_predictor, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        end.points.theta_ratio, end.determinant_encoder, rtol=1e-6, atol=1e-6)


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
    end, cloud, flow, e = run(6), start(), CarriedFlow(X, Y, 1.5, 3.0), 1e-3
    offsets = torch.tensor([e, -e, 2 * e, -2 * e], dtype=torch.float64)
    stencil = torch.tensor([8.0, -8.0, -1.0, 1.0], dtype=torch.float64) / (12 * e)

    def spread(point):  # the ghosts of a particle, (4k, k)
        return (point + offsets[:, None, None] * torch.eye(len(point))).flatten(0, 1)

    ghosts = Cloud.start(
        torch.cat([spread(cloud.omega[i]) for i in (0, 4)]),
        torch.stack([spread(layer[2]) for layer in cloud.theta]))
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
    flow = CarriedFlow(X, Y, 1.5, 3.0)
    for _ in range(6):
        plain = flow.step(plain, 0.1)
    torch.testing.assert_close(vars(end.cloud), vars(plain))
    torch.testing.assert_close(end.points.omega, plain.omega[:5])
    torch.testing.assert_close(end.origin.theta, start().theta[:, :3])


def test_a_batch_equals_single_runs():
    together, cloud = run(4, (2,)), start((2,))
    one = Cloud.start(cloud.omega[1], cloud.theta[1])
    alone = Tracked.begin(CarriedFlow(X, Y, 1.5, 3.0), one, 5, 3).advance(0.6, 4)
    torch.testing.assert_close(
        together.determinant_encoder[1], alone.determinant_encoder)
    torch.testing.assert_close(together.score_predictor[1], alone.score_predictor)


def test_a_frozen_encoder_is_tracked_without_one():
    flow = CarriedFlow(X, Y, 1.0, 3.0)
    end = Tracked.begin(flow, Cloud.start(start().omega), 5).advance(0.4, 24)
    assert end.points.theta is None
    torch.testing.assert_close(
        end.points.omega_ratio, end.determinant_predictor, rtol=1e-6, atol=1e-6)


def test_bad_input_is_named():
    flow = CarriedFlow(X, Y)
    with pytest.raises(ValueError, match="predictor: only 16 particles"):
        Tracked.begin(flow, start(), 17, 1)
    with pytest.raises(ValueError, match="encoder: track between 1 and 6"):
        Tracked.begin(flow, start(), 5)
    with pytest.raises(ValueError, match="predictor: expected an integer"):
        Tracked.begin(flow, start(), 0, 1)
