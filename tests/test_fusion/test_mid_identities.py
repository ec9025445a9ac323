"""What the formulas of mid fusion imply, exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

import fusion.mid as mid
from fusion.mid._blocks import AttentionBlock, positions

RNG = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


def test_concat_tells_zero_from_absent():
    zero = torch.zeros(1, 2, 3)
    fuse = mid.ConcatFusion(3, 2)
    present = fuse(zero).fused
    absent = fuse(zero, torch.tensor([[True, False]])).fused
    assert not torch.equal(present, absent)


def test_mean_moves_by_at_most_the_bound_under_a_layer_norm():
    width, k, f = 16, 7, 3
    norm = torch.nn.LayerNorm(width, elementwise_affine=False)
    honest = norm(normal(500, k, width))
    lies = honest.clone()
    lies[:, :f] = norm(1e3 * normal(500, f, width))
    fuse = mid.MeanFusion(width, k)
    shift = (fuse(lies).fused - fuse(honest).fused).norm(dim=1)
    assert shift.max() <= 2 * f * math.sqrt(width) / k + 1e-9
    lies[:, :f] = -honest[:, :f]
    worst = (fuse(lies).fused - fuse(honest).fused).norm(dim=1).max()
    assert worst > 0.5 * f * math.sqrt(width) / k


def test_gate_of_two_is_a_tied_sigmoid_and_equal_logits_are_the_mean():
    fuse = mid.GatedFusion(4, 2).double().eval()
    x = normal(5, 2, 4)
    logits = fuse.scores[0](x.flatten(1)).reshape(5, 2, 4)
    z = torch.sigmoid(logits[:, 0] - logits[:, 1])
    value = [torch.tanh(fuse.values[v](x[:, v])) for v in range(2)]
    torch.testing.assert_close(fuse(x).fused, z * value[0] + (1 - z) * value[1], rtol=0, atol=1e-12)
    with torch.no_grad():
        for parameter in fuse.scores.parameters():
            parameter.zero_()
    torch.testing.assert_close(fuse(x).fused, (value[0] + value[1]) / 2, rtol=0, atol=1e-12)


def test_film_is_the_identity_at_the_start_and_without_a_condition():
    fuse = mid.FiLMFusion(4, 3, base=1).double()
    x = normal(5, 3, 4)
    assert torch.equal(fuse(x).fused, x[:, 1])
    with torch.no_grad():
        for parameter in fuse.parameters():
            parameter.add_(normal(*parameter.shape))
    alone = torch.tensor([[False, True, False]]).expand(5, -1)
    assert torch.equal(fuse(x, alone).fused, x[:, 1])
    baseless = torch.tensor([[True, False, True]]).expand(5, -1)
    assert not torch.allclose(fuse(x, baseless).fused, fuse(x).fused)


@pytest.mark.parametrize(("n_views", "rank"), [(1, 2), (2, 3), (3, 4)])
def test_low_rank_is_the_contraction_of_the_outer_product(n_views, rank):
    width = 5
    fuse = mid.LowRankFusion(width, n_views, rank=rank).double()
    with torch.no_grad():
        fuse.mixing.copy_(normal(rank))
        fuse.bias.copy_(normal(width))
    x = normal(7, n_views, width)
    outer = mid.tensor_fusion([x[:, v] for v in range(n_views)])
    tensor = torch.ones(1, rank, width, dtype=torch.float64)
    for factor in fuse.factors:
        tensor = (tensor[:, None] * factor[None]).flatten(0, 1)
    full = torch.einsum("nc,crw,r->nw", outer, tensor, fuse.mixing) + fuse.bias
    present = torch.ones(7, n_views, dtype=torch.bool)
    torch.testing.assert_close(fuse.contract(x, present), full, rtol=0, atol=1e-12)


def test_low_rank_starts_with_mean_one_and_the_stated_variance():
    torch.manual_seed(0)
    values = []
    for _ in range(60):
        fuse = mid.LowRankFusion(40, 3, rank=1).double()
        x = torch.randn(40, 3, 40, dtype=torch.float64)
        values.append(fuse.contract(x, torch.ones(40, 3, dtype=torch.bool)).detach())
    products = torch.cat(values)
    # E prod (1 + g_v) = 1 and E prod (1 + g_v)^2 = 2^V for g_v of mean 0 and variance w/(w+1).
    assert abs(products.mean() - 1) < 0.05
    assert abs(products.var() - ((1 + 40 / 41) ** 3 - 1)) < 0.6


def test_tensor_fusion_is_the_naive_product():
    a, b, c = normal(3, 2), normal(3, 3), normal(3, 1)
    got = mid.tensor_fusion([a, b, c])
    for i in range(3):
        naive = np.einsum(
            "i,j,k->ijk", *(np.concatenate([[1.0], part[i].numpy()]) for part in (a, b, c))
        ).ravel()
        np.testing.assert_allclose(got[i], naive, rtol=0, atol=1e-13)


def test_block_is_attention_written_out():
    torch.manual_seed(0)
    block = AttentionBlock(6, 2, 5).double().eval()
    x, keep = normal(2, 4, 6), torch.tensor([[True, True, False, True], [True, False, False, False]])
    got = block(x, keep)
    for n in range(2):
        normed = block.before(x[n])
        q, k, v = (
            normed @ block.project.weight[i * 6 : (i + 1) * 6].T + block.project.bias[i * 6 : (i + 1) * 6]
            for i in range(3)
        )
        mixed = torch.zeros(4, 6, dtype=torch.float64)
        for head in range(2):
            cut = slice(head * 3, head * 3 + 3)
            score = q[:, cut] @ k[:, cut].T / math.sqrt(3)
            score[:, ~keep[n]] = -math.inf
            mixed[:, cut] = torch.softmax(score, dim=1) @ v[:, cut]
        y = x[n] + block.join(mixed)
        hidden = torch.nn.functional.gelu(block.widen(block.between(y)))
        torch.testing.assert_close(got[n], y + block.narrow(hidden), rtol=0, atol=1e-12)


def test_positions_are_sines_of_the_time_and_zero_at_zero():
    p = positions(torch.tensor([0.0, 2.5], dtype=torch.float64), 4)
    assert torch.equal(p[0], torch.zeros(4, dtype=torch.float64))
    expected = [math.sin(2.5), math.cos(2.5) - 1, math.sin(2.5 / 100), math.cos(2.5 / 100) - 1]
    np.testing.assert_allclose(p[1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("fusion_layer", "exchanges"), [(None, False), (0, True), (1, True)])
def test_bottleneck_exchanges_only_with_two_layers_behind(fusion_layer, exchanges):
    torch.manual_seed(0)
    fuse = mid.BottleneckFusion(8, 2, n_layers=3, fusion_layer=fusion_layer).double().eval()
    x = normal(3, 2, 8).requires_grad_()
    own = (fuse(x).views[:, 0] * normal(8)).sum()  # a plain sum of a LayerNorm is constant
    (gradient,) = torch.autograd.grad(own, x)
    assert bool((gradient[:, 1].abs() > 0).any()) is exchanges
    assert bool((gradient[:, 0].abs() > 0).any())


def test_bottleneck_with_one_layer_behind_would_not_exchange():
    """Why fusion_layer = n_layers - 1 is refused: the last shared tokens are read by nobody."""
    torch.manual_seed(0)
    fuse = mid.BottleneckFusion(8, 2, n_layers=2, fusion_layer=0).double().eval()
    fuse.fusion_layer = 1
    x = normal(3, 2, 8).requires_grad_()
    (gradient,) = torch.autograd.grad((fuse(x).views[:, 0] * normal(8)).sum(), x)
    assert (gradient[:, 1] == 0).all()


def test_bottleneck_without_exchange_is_late_averaging():
    torch.manual_seed(0)
    fuse = mid.BottleneckFusion(8, 2, fusion_layer=None).double().eval()
    x = normal(3, 2, 8)
    alone = [fuse([x[:, 0], None]).fused, fuse([None, x[:, 1]]).fused]
    torch.testing.assert_close(fuse(x).fused, (alone[0] + alone[1]) / 2, rtol=0, atol=1e-12)


def test_experts_are_the_dense_mixture_when_all_are_chosen():
    fuse = mid.MixtureOfExpertsFusion(4, 2, n_experts=3, top_k=3, n_shared=1).double().eval()
    x = normal(6, 2, 4)
    joint = torch.cat([x.flatten(1), torch.ones(6, 2, dtype=torch.float64)], dim=1)
    gate = torch.softmax(fuse.gate(joint), dim=1)
    dense = sum(gate[:, [i]] * fuse.experts[i](joint) for i in range(3)) + fuse.shared[0](joint)
    torch.testing.assert_close(fuse(x).fused, dense, rtol=0, atol=1e-12)


def test_ties_of_the_gate_go_to_the_lowest_expert():
    fuse = mid.MixtureOfExpertsFusion(4, 1, n_experts=4, top_k=1, n_shared=0).double().eval()
    with torch.no_grad():
        fuse.gate.weight.zero_()
        fuse.gate.bias.zero_()
    x = normal(3, 1, 4)
    joint = torch.cat([x.flatten(1), torch.ones(3, 1, dtype=torch.float64)], dim=1)
    assert torch.equal(fuse(x).fused, fuse.experts[0](joint))


@pytest.mark.parametrize("top_k", [1, 2])
def test_switch_loss_is_one_when_uniform_and_the_most_at_collapse(top_k):
    n_experts = 4
    fuse = mid.MixtureOfExpertsFusion(
        4, 1, n_experts=n_experts, top_k=top_k, n_shared=0, alpha=1.0, z_loss=0.0
    ).double()
    with torch.no_grad():
        fuse.gate.weight.zero_()
        fuse.gate.bias.zero_()
        fuse.gate.bias[:top_k] = 500.0
    collapsed = fuse.train()(normal(8, 1, 4)).aux_loss.detach()
    assert float(collapsed) == pytest.approx(n_experts / top_k)
    score = torch.zeros(4, n_experts, dtype=torch.float64)
    routed = torch.eye(n_experts, dtype=torch.bool) | (
        torch.eye(n_experts).roll(1, 1).bool() if top_k == 2 else False
    )
    uniform = fuse._balance(score, torch.full_like(score, 0.25), routed)
    assert float(uniform.detach()) == pytest.approx(1.0)


def test_product_of_experts_is_the_mean_of_the_product_of_densities():
    fuse = mid.ProductOfExpertsFusion(1, 2).double()
    x = torch.tensor([[[1.5, 0.3], [-0.7, 1.2]]], dtype=torch.float64)
    mean, raw = x[0, :, 0].numpy(), x[0, :, 1].numpy()
    precision = np.log1p(np.exp(raw))

    def density(t):
        return np.exp(-0.5 * t**2 - 0.5 * (precision * (t - mean) ** 2).sum())

    mass, _ = quad(density, -20, 20, epsabs=1e-13)
    first, _ = quad(lambda t: t * density(t), -20, 20, epsabs=1e-13)
    assert float(fuse(x).fused[0, 0]) == pytest.approx(first / mass, abs=1e-9)


def test_precision_is_capped():
    fuse = mid.ProductOfExpertsFusion(1, 2, max_precision=10.0).double()
    x = torch.tensor([[[1.0, 1e9], [0.0, 1e9]]], dtype=torch.float64)
    assert float(fuse(x).fused) == pytest.approx(10 / 21)


def test_feature_sampling_is_the_mean_in_expectation_and_in_evaluation():
    fuse = mid.MeanFusion(3, 3, feature_sampling=True).double()
    x = normal(1, 3, 3)
    mask = torch.tensor([[True, False, True]])
    torch.manual_seed(0)
    drawn = torch.stack([fuse.train()(x, mask).fused[0] for _ in range(4000)])
    options = torch.stack([x[0, 0], x[0, 2]])
    assert ((drawn[:, None] - options[None]).abs().amin(dim=1) < 1e-12).all()
    expected = (x[0, 0] + x[0, 2]) / 2
    spread = (x[0, 0] - x[0, 2]).abs() / 2 / math.sqrt(4000)
    assert ((drawn.mean(dim=0) - expected).abs() < 5 * spread).all()
    torch.testing.assert_close(fuse.eval()(x, mask).fused[0], expected, rtol=0, atol=1e-12)


def test_trimmed_mean_without_liars_is_the_mean():
    x = normal(5, 4, 3)
    got = mid.get_mid_operator("trimmed_mean", 3, 4, n_byzantine=0)(x).fused
    torch.testing.assert_close(got, x.mean(dim=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("n_views", "p"), [(1, 0.5), (2, 0.2), (4, 0.6)])
def test_view_dropout_keeps_each_view_as_often_as_stated(n_views, p):
    mask = torch.ones(40000, n_views, dtype=torch.bool)
    kept = mid.view_dropout(mask, p, generator=torch.Generator().manual_seed(1))
    assert kept.any(dim=1).all()
    expected = 1 - p + p**n_views / n_views
    error = math.sqrt(expected * (1 - expected) / 40000)
    assert ((kept.double().mean(dim=0) - expected).abs() <= 4.5 * error + 1e-12).all()


@given(st.integers(1, 6), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_view_dropout_adds_no_view_and_empties_no_row(n_views, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(30, n_views, generator=generator) < 0.5
    kept = mid.view_dropout(mask, 0.7, generator=generator)
    assert not (kept & ~mask).any()
    assert torch.equal(kept.any(dim=1), mask.any(dim=1))


def test_consistency_score_is_the_divergence_written_out():
    p = torch.softmax(normal(20, 4, 3), dim=2)
    mask = torch.rand(20, 4, generator=RNG) < 0.7
    mask[0] = False
    mask[1] = torch.tensor([True, False, False, False])
    score, view = mid.consistency_score(p, mask)
    for i in range(20):
        here = [v for v in range(4) if mask[i, v]]
        if len(here) < 2:
            assert torch.isnan(score[i])
            continue
        divergence = {}
        for v in here:
            own = p[i, v].numpy()
            others = np.mean([p[i, u].numpy() for u in here if u != v], axis=0)
            middle = (own + others) / 2
            divergence[v] = (
                0.5 * (own * np.log(own / middle)).sum() + 0.5 * (others * np.log(others / middle)).sum()
            )
        assert float(score[i]) == pytest.approx(max(divergence.values()), abs=1e-12)
        if len(here) > 2:
            assert int(view[i]) == max(divergence, key=lambda v: divergence[v])
        else:
            assert divergence[here[0]] == pytest.approx(divergence[here[1]])
    assert (score[~torch.isnan(score)] <= math.log(2)).all()


def test_gate_never_masks_one_of_two_views():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    gated = mid.consistency_gate(torch.tensor([9.0, 9.0]), torch.tensor([0, 2]), mask, 0.1)
    assert gated.tolist() == [[True, True, False], [True, True, False]]


def test_gradient_scales_slow_only_who_is_ahead():
    logits = torch.zeros(10, 3, 2, dtype=torch.float64)
    logits[:, 0, 0] = 4.0
    truth, mask = torch.zeros(10, dtype=torch.int64), torch.ones(10, 3, dtype=torch.bool)
    scales = mid.gradient_scales(logits, truth, mask, alpha=0.3)
    ratio = (1 / (1 + math.exp(-4))) / 0.5
    assert scales.tolist() == pytest.approx([1 - math.tanh(0.3 * ratio), 1.0, 1.0])


def test_blend_weights_without_gain_are_equal():
    assert mid.blend_weights([(1, 1), (1, 1)], [(1, 2), (1, 3)]) == [0.5, 0.5]


def test_auxiliary_loss_ignores_the_absent_even_if_nan():
    losses = torch.tensor([[1.0, float("nan")], [3.0, 5.0]])
    mask = torch.tensor([[True, False], [True, True]])
    assert float(mid.auxiliary_loss(losses, mask)) == 2.0 + 5.0
    assert float(mid.auxiliary_loss(losses, mask, torch.tensor([3.0, 1.0]))) == 1.5 + 5.0


def test_fit_width_fills_the_budget_and_never_exceeds_it():
    def build(width, hidden=None):
        hidden = width if hidden is None else hidden
        return torch.nn.Sequential(torch.nn.Linear(50, hidden), torch.nn.Linear(hidden, width))

    for budget in (300, 1000, 5000, 20000):
        module, chosen = mid.fit_width(build, budget, second="hidden")
        size = sum(p.numel() for p in module.parameters())
        assert size == chosen["parameters"] <= budget
        assert size >= 0.9 * budget


def test_parameters_are_counted_by_kind():
    counted = mid.param_count(mid.GatedFusion(4, 2))
    assert counted["gate"] == 2 * 2 * 16 + 8
    frozen = torch.nn.Linear(3, 2).requires_grad_(False)
    assert mid.param_count(frozen) == {
        "total": 8, "trained": 0, "frozen": 8, "norm": 0, "gate": 0, "token": 0, "auxiliary": 0, "rest": 8,
    }  # fmt: skip


def test_operators_compile():
    """Whole-graph capture changes no number; the eager backend needs no compiler."""
    for name in ("mean", "gated", "low_rank", "view_transformer"):
        torch.manual_seed(0)
        operator = mid.get_mid_operator(name, 8, 3).eval()
        x, mask = torch.randn(4, 3, 8), torch.rand(4, 3) < 0.7
        compiled = torch.compile(operator, backend="eager")
        torch.testing.assert_close(compiled(x, mask).fused, operator(x, mask).fused, rtol=0, atol=1e-5)
