"""Rules on tensors of other devices: the twins' values, what is left to the processor, and a device if there is one."""

from __future__ import annotations

import numpy as np
import pytest
from contract import CASES, IDS, ROWS, domain, nine

import fusion

torch = pytest.importorskip("torch")
gradients = pytest.importorskip("fusion._torch.gradients")

TWINS = [
    pytest.param(name, params, id=mark)
    for (name, params), mark in zip(CASES, IDS, strict=True)
    if nine(name, params)._rule().twin is not None
    and dict(params).get("scope") != "batch"
    and ROWS[name].domain == "real"
]


def _panels(name):
    rng = np.random.default_rng(30)
    for shape in ((9, 3), (6, 9, 3), (2, 3, 9, 40)):
        yield domain(name, rng.normal(size=shape))
        far = domain(name, rng.normal(size=shape))
        far[..., 4, :] = 1e8
        yield far
        yield domain(name, np.repeat(rng.normal(size=(*shape[:-2], 3, shape[-1])), 3, axis=-2))
        yield domain(name, rng.integers(0, 3, size=shape).astype(float))


@pytest.mark.parametrize(("name", "params"), TWINS)
def test_a_twin_gives_what_the_rule_gives(name, params):
    operator = nine(name, params)
    for panel in _panels(name):
        fused = gradients.fuse_in_place(torch.as_tensor(panel), operator._rule(), weights=None)
        expected = operator(panel)
        np.testing.assert_allclose(fused.numpy(), expected, rtol=1e-9, atol=1e-9 * np.abs(panel).max())
        single = gradients.fuse_in_place(torch.as_tensor(panel).float(), operator._rule(), weights=None)
        assert single.dtype == torch.float32


def test_there_are_twins():
    names = {param.values[0] for param in TWINS}
    assert names >= {
        "mean",
        "median",
        "trimmed_mean",
        "krum",
        "multi_krum",
        "caf",
        "centered_clipping",
        "fltrust",
    }


def test_faults_weights_and_few_specialists_are_left_to_the_processor():
    panel = torch.randn(4, 9, 3, dtype=torch.float64)
    rule = fusion.Krum(2)._rule()
    assert gradients.fuse_in_place(panel, rule, weights=[1.0] * 9) is None
    assert gradients.fuse_in_place(panel[:, :4], rule, weights=None) is None
    assert gradients.fuse_in_place(panel[:0], rule, weights=None) is None
    assert gradients.fuse_in_place(panel, fusion.Krum(2, scope="batch")._rule(), weights=None) is None
    panel[1, 2, 0] = torch.nan
    assert gradients.fuse_in_place(panel, rule, weights=None) is None
    nobody = -torch.ones(3, 2, dtype=torch.float64)
    nobody[0] = 1
    assert gradients.fuse_in_place(nobody, fusion.FLTrust()._rule(), weights=None) is None


def test_tensors_elsewhere_take_the_twin(monkeypatch):
    from fusion import _run

    monkeypatch.setattr(_run, "_is_elsewhere", lambda panel: isinstance(panel, torch.Tensor))
    used = []
    whole = gradients.fuse_in_place
    monkeypatch.setattr(
        gradients,
        "fuse_in_place",
        lambda panel, rule, weights: used.append(rule.name) or whole(panel, rule, weights=weights),
    )
    panel = torch.randn(4, 9, 3, dtype=torch.float64)
    torch.testing.assert_close(
        fusion.krum(panel, n_byzantine=2), torch.as_tensor(fusion.krum(panel.numpy(), n_byzantine=2))
    )
    assert used == ["krum"]
    panel[1, 2] = torch.nan
    assert torch.isfinite(fusion.krum(panel, n_byzantine=2)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "params"), TWINS)
def test_on_a_device(name, params):
    operator = nine(name, params)
    panel = domain(name, np.random.default_rng(31).normal(size=(6, 9, 3)))
    tensor = torch.as_tensor(panel, device="cuda")
    fused = operator(tensor)
    assert fused.device == tensor.device
    np.testing.assert_allclose(fused.cpu().numpy(), operator(panel), atol=1e-9)
    if ROWS[name].differentiable:
        (gradient,) = torch.autograd.grad(operator(tensor.requires_grad_()).sum(), tensor)
        assert gradient.device == tensor.device
