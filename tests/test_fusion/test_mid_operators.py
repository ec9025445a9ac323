"""The contract of every mid operator, over the registry."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch

import fusion.mid as mid
from theory import BudgetError, PanelError

WIDTH = 8
CASES = [
    pytest.param(
        row.name, dict(params), id=f"{row.name}-{'-'.join(map(str, params.values()))}" if params else row.name
    )
    for row in map(mid.mid_operator_row, mid.mid_operator_names())
    for params in ({}, *row.variants)
]

SIZES = [
    pytest.param(*case.values, n_views, id=f"{case.id}-{n_views}")
    for case in CASES
    for n_views in (1, 2, 3, 7)
    if n_views >= mid.mid_operator_row(case.values[0]).operator.needs_views
]


def build(name, n_views, params=None, *, width=WIDTH, seed=0):
    torch.manual_seed(seed)
    operator = mid.get_mid_operator(name, width, n_views, **(params or {})).double()
    # Fresh operators may be the identity (FiLM) or have zero biases: no parameter may hide behind that.
    with torch.no_grad():
        for parameter in operator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return operator.eval()


def embeddings(operator, n=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        n, operator.n_views, operator.width * operator.emits, generator=generator, dtype=torch.float64
    )


def some_mask(n, n_views, seed=2):
    mask = torch.rand(n, n_views, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[torch.arange(n), torch.arange(n) % n_views] = True
    return mask


@pytest.mark.parametrize(("name", "params", "n_views"), SIZES)
def test_every_parameter_is_registered_trained_and_saved(name, params, n_views):
    operator = build(name, n_views, params).train()
    x = embeddings(operator, n=24).requires_grad_()
    before = {key: value.clone() for key, value in operator.state_dict().items()}
    named = dict(operator.named_parameters())
    assert set(named) <= set(before)
    # Plain lists of tensors are the classic defect: every tensor that requires a gradient has a name.
    hidden = [
        key
        for module in operator.modules()
        for key, value in vars(module).items()
        if key not in ("_parameters", "_buffers", "_modules")
        for item in (value if isinstance(value, list | tuple) else [value])
        if isinstance(item, torch.Tensor) and item.requires_grad
    ]
    assert not hidden
    optimizer = torch.optim.SGD([x, *named.values()], lr=1e-2)
    mask = some_mask(24, n_views)
    out = operator(x, mask)
    ((out.fused * torch.randn_like(out.fused)).sum() + out.aux_loss).backward()
    idle = {key for key, value in named.items() if value.grad is None or not value.grad.abs().sum() > 0}
    assert idle <= excused(name, params, n_views), f"no gradient reaches {sorted(idle)}"
    optimizer.step()
    after = operator.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in named if key not in idle)


def excused(name, params, n_views):
    """Parameters that cannot matter by construction: one view has nobody to attend to or to be weighed against."""
    if n_views == 1 and name == "cross_attention":
        return {"nobody"}
    if n_views == 1 and name == "gated" and params.get("gate") != "sigmoid":
        return {"scores.0.weight", "scores.0.bias"}
    return set()


@pytest.mark.parametrize(("name", "params"), CASES)
@pytest.mark.parametrize("poison", [1e6, float("nan"), float("inf")])
def test_content_of_a_masked_view_changes_no_bit(name, params, poison):
    results = []
    for content in (0.0, poison):
        operator = build(name, 3, params)
        x = embeddings(operator)
        mask = some_mask(6, 3)
        x = torch.where(mask[..., None], x, torch.full_like(x, content)).requires_grad_()
        out = operator(x, mask)
        out.fused.sum().backward()
        gradients = [p.grad for p in operator.parameters() if p.grad is not None]
        results.append((out.fused, out.views, x.grad, *gradients))
    for first, second in zip(*results, strict=True):
        assert torch.isfinite(first).all()
        assert torch.equal(first, second)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_mask_none_nan_and_empty_sequence_are_the_same_absence(name, params):
    operator = build(name, 3, params)
    x = embeddings(operator)
    masked = operator(x, torch.tensor([[True, False, True]]).expand(6, -1)).fused
    nan = x.clone()
    nan[:, 1] = float("nan")
    assert torch.equal(operator(nan).fused, masked)
    assert torch.equal(operator([x[:, 0], None, x[:, 2]]).fused, masked)
    empty = torch.ones(6, 4, dtype=torch.bool)
    sequence = torch.randn(6, 4, x.shape[2], dtype=torch.float64)
    gone = operator([x[:, 0], sequence, x[:, 2]], None, [None, empty, None]).fused
    torch.testing.assert_close(gone, masked, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_rows_without_any_view_are_finite_and_disturb_nobody(name, params):
    operator = build(name, 3, params)
    x = embeddings(operator).requires_grad_()
    mask = torch.ones(6, 3, dtype=torch.bool)
    mask[2] = False
    fused = operator(x, mask).fused
    assert torch.isfinite(fused).all()
    torch.testing.assert_close(fused[3:], operator(x[3:], mask[3:]).fused, rtol=0, atol=1e-12)
    fused.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[2] == 0).all()


@pytest.mark.parametrize(("name", "params"), CASES)
def test_evaluation_is_deterministic_and_row_by_row(name, params):
    operator = build(name, 3, params)
    x, mask = embeddings(operator), some_mask(6, 3)
    whole = operator(x, mask)
    assert torch.equal(whole.fused, operator(x, mask).fused)
    assert whole.aux_loss == 0
    alone = torch.cat([operator(x[i : i + 1], mask[i : i + 1]).fused for i in range(6)])
    torch.testing.assert_close(alone, whole.fused, rtol=0, atol=1e-12)
    single = copy.deepcopy(operator).float()
    parts = torch.cat([single(x[i : i + 1].float(), mask[i : i + 1]).fused for i in range(6)])
    torch.testing.assert_close(parts, single(x.float(), mask).fused, rtol=1e-5, atol=1e-6)
    assert single(x.float()).fused.dtype == torch.float32


@pytest.mark.parametrize(("name", "params"), CASES)
def test_length_and_content_of_padding_do_not_matter(name, params):
    operator = build(name, 2, params)
    generator = torch.Generator().manual_seed(3)
    d = operator.width * operator.emits
    tokens = torch.randn(5, 4, d, generator=generator, dtype=torch.float64)
    lengths = torch.tensor([4, 1, 2, 3, 4])
    other = torch.randn(5, d, generator=generator, dtype=torch.float64)
    results = []
    for extra, content in ((0, 0.0), (3, 7.0), (2, float("nan"))):
        padded = torch.full((5, 4 + extra, d), content, dtype=torch.float64)
        keep = torch.arange(4 + extra) < lengths[:, None]
        padded[:, :4] = torch.where(keep[:, :4, None], tokens, padded[:, :4])
        results.append(operator([padded, other], None, [~keep, None]).fused)
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_permuting_views_changes_what_the_row_says(name, params):
    row = mid.mid_operator_row(name)
    operator = build(name, 3, params)
    x, mask = embeddings(operator), some_mask(6, 3)
    order = torch.tensor([2, 0, 1])
    moved = operator(x[:, order], mask[:, order]).fused
    if row.permutation == "exact" and params.get("rule") != "krum":
        torch.testing.assert_close(moved, operator(x, mask).fused, rtol=0, atol=1e-12)
    elif row.permutation == "modules" and not is_function_of_sets(name):
        assert not torch.allclose(moved, operator(x, mask).fused)


def is_function_of_sets(name):
    return name in ("mean", "product_of_experts", "robust")


@pytest.mark.parametrize(("name", "params"), CASES)
def test_gradients_are_derivatives(name, params):
    operator = build(name, 3, params, width=4)
    x = embeddings(operator, n=2).requires_grad_()
    mask = torch.tensor([[True, True, True], [True, False, True]])
    assert torch.autograd.gradcheck(lambda v: operator(v, mask).fused, (x,), atol=1e-6)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_state_survives_saving_and_pickle(name, params):
    operator, fresh = build(name, 3, params), build(name, 3, params, seed=9)
    x, mask = embeddings(operator), some_mask(6, 3)
    stream = io.BytesIO()
    torch.save(operator.state_dict(), stream)
    stream.seek(0)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(fresh(x, mask).fused, operator(x, mask).fused)
    again = pickle.loads(pickle.dumps(operator))
    assert torch.equal(again(x, mask).fused, operator(x, mask).fused)


@pytest.mark.parametrize(("name", "n_views"), [case.values[::2] for case in SIZES if not case.values[1]])
def test_number_of_parameters_is_the_formula(name, n_views):
    row = mid.mid_operator_row(name)
    operator = mid.get_mid_operator(name, WIDTH, n_views)
    assert mid.param_count(operator)["total"] == row.count(WIDTH, n_views)
    assert operator(torch.zeros(2, n_views, WIDTH * operator.emits)).fused.shape == (2, operator.out_features)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "geometric_median", "krum"])
@pytest.mark.parametrize("attack", ["large", "huge", "collinear", "copies", "nan"])
def test_declared_breakdown_holds(rule, attack):
    n_views, f = 7, 2
    operator = mid.get_mid_operator(rule, WIDTH, n_views, n_byzantine=f).double().eval()
    assert operator.breakdown(n_views) >= f
    generator = torch.Generator().manual_seed(5)
    honest = torch.randn(40, n_views, WIDTH, generator=generator, dtype=torch.float64)
    lies = honest.clone()
    bad = {
        "large": torch.full((40, f, WIDTH), 1e3, dtype=torch.float64),
        "huge": torch.full((40, f, WIDTH), 1e6, dtype=torch.float64),
        "collinear": honest[:, :1]
        * torch.tensor([[[50.0]], [[-80.0]]], dtype=torch.float64).reshape(1, f, 1),
        "copies": honest[:, :1] + 4.0 * torch.ones(40, f, WIDTH, dtype=torch.float64),
        "nan": torch.full((40, f, WIDTH), float("nan"), dtype=torch.float64),
    }[attack].clone()
    if attack == "nan":
        bad[..., 0] = 0.0  # a row of nothing but NaN would be an absence, not a fault
    lies[:, :f] = bad
    out = operator(lies)
    good = honest[:, f:]
    if rule in ("median", "trimmed_mean"):
        low, high = good.amin(dim=1), good.amax(dim=1)
        assert ((out.fused >= low - 1e-9) & (out.fused <= high + 1e-9)).all()
    else:
        centre = good.mean(dim=1)
        radius = (good - centre[:, None]).norm(dim=2).amax(dim=1)
        factor = 2 * (n_views - f) / (n_views - 2 * f) if rule == "geometric_median" else 8.0
        assert ((out.fused - centre).norm(dim=1) <= factor * radius + 1e-9).all()
    assert (out.n_removed == (f if attack == "nan" else 0)).all()


def test_unprotected_operators_do_break():
    """The other side of the row: a mean follows a lie as far as it goes."""
    operator = mid.get_mid_operator("mean", WIDTH, 3)
    x = torch.zeros(1, 3, WIDTH)
    x[0, 0] = 1e6
    assert operator.breakdown(3) == 0
    assert operator(x).fused.abs().max() > 1e5


def test_more_broken_views_than_the_budget_is_an_error():
    operator = mid.RobustFusion(2, 5, n_byzantine=1)
    x = torch.zeros(1, 5, 2)
    x[0, :2, 0] = float("nan")
    with pytest.raises(BudgetError, match=r"sample 0: 2 present views are not finite, but n_byzantine=1"):
        operator(x)


def test_shortfall_reduces_or_raises():
    x, mask = torch.randn(2, 5, 3), torch.tensor([[True] * 5, [True, True, True, False, False]])
    reduced = mid.RobustFusion(3, 5, rule="krum", n_byzantine=1)(x, mask).fused
    assert torch.isfinite(reduced).all()
    with pytest.raises(
        BudgetError, match=r"krum with n_byzantine=1 needs 5 present views; 1 rows have fewer"
    ):
        mid.RobustFusion(3, 5, rule="krum", n_byzantine=1, on_shortfall="raise")(x, mask)


@pytest.mark.parametrize("rule", ["median", "trimmed_mean", "krum", "geometric_median"])
def test_robust_rules_agree_with_the_late_ones(rule):
    import fusion

    generator = np.random.default_rng(0)
    x = generator.normal(size=(30, 7, 5))
    late = fusion.get_operator(rule, **({} if rule in ("median", "geometric_median") else {"n_byzantine": 2}))
    operator = mid.get_mid_operator(rule, 5, 7, n_byzantine=2)
    np.testing.assert_allclose(operator(torch.as_tensor(x)).fused.numpy(), late(x), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mid.get_mid_operator("gatde", 4, 2), "there is no mid operator 'gatde'"),
        (lambda: mid.GatedFusion(4, 2, gate="hard"), "gate is 'softmax'"),
        (
            lambda: mid.MeanFusion(4, 2, pool="max", feature_sampling=True),
            "feature_sampling needs pool='mean'",
        ),
        (lambda: mid.FiLMFusion(4, 1), "at least 2 views"),
        (lambda: mid.FiLMFusion(4, 2, base=2), "base is the position of a view"),
        (lambda: mid.LowRankFusion(4, 2, rank=0), "rank is at least 1"),
        (lambda: mid.ViewTransformerFusion(6, 2, n_heads=4), "cannot be cut into 4 heads"),
        (
            lambda: mid.BottleneckFusion(8, 2, n_layers=2, fusion_layer=1),
            r"n_layers=2, fusion_layer=1 never exchanges information",
        ),
        (lambda: mid.MixtureOfExpertsFusion(4, 2, top_k=5), "1 <= top_k <= n_experts"),
        (lambda: mid.ProductOfExpertsFusion(4, 2, max_precision=0), "precisions are positive"),
        (lambda: mid.RobustFusion(4, 2, rule="mode"), "rule is one of"),
        (lambda: mid.RobustFusion(4, 2, n_byzantine=True), "n_byzantine is a number of views"),
        (lambda: mid.MeanFusion(4, ["a", "a"]), "occur twice"),
        (
            lambda: mid.MeanFusion(4, ["audio", "video"])({"vidoe": torch.zeros(1, 4)}),
            r"unknown view 'vidoe'; fitted: audio, video",
        ),
        (lambda: mid.MeanFusion(4, 2)(torch.zeros(1, 3, 4)), r"a tensor of views is \(sample, 2, feature\)"),
        (lambda: mid.MeanFusion(4, 2)([torch.zeros(1, 4), torch.zeros(1, 5)]), "view '1' has shape"),
        (lambda: mid.MeanFusion(4, 2)(torch.zeros(1, 2, 4), torch.ones(1, 3, dtype=torch.bool)), "a mask is"),
        (
            lambda: mid.StreamAttention(8, 2, max_tokens=5)([torch.zeros(1, 4, 8)] * 2),
            "8 tokens exceed max_tokens=5",
        ),
        (lambda: mid.view_dropout(torch.ones(1, 2, dtype=torch.bool), 1.0), "below 1"),
        (lambda: mid.tensor_fusion([torch.zeros(1, 20)] * 3), "9261 cells; at most 8000"),
        (
            lambda: mid.fit_width(lambda w: torch.nn.Linear(100, w), 50),
            "param_budget=50 is below the smallest",
        ),
    ],
)
def test_errors_say_what_came_and_the_way_out(call, message):
    with pytest.raises((PanelError, BudgetError), match=message):
        call()
