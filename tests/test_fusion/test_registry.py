"""The registry as data: names, rows, the table, certificates."""

from __future__ import annotations

import numpy as np
import pytest

import fusion
from fusion import get_operator, operator_names, operator_row, operator_table
from theory import PanelError


def test_names_and_rows():
    assert operator_names() == operator_names("late")
    assert operator_names("early") == ()
    for name in operator_names():
        operator = get_operator(name)
        assert operator.name == name
        assert operator.stage == operator_row(name).stage == "late"
    krum = get_operator("krum", n_byzantine=3)
    assert get_operator(krum) is krum
    other = get_operator(krum, n_byzantine=1)
    assert (krum.n_byzantine, other.n_byzantine) == (3, 1)
    with pytest.raises(PanelError, match=r"there is no operator 'krumm'. Use one of mean"):
        get_operator("krumm")
    with pytest.raises(PanelError, match="has no parameter 'f'"):
        get_operator("krum", f=1)
    with pytest.raises(PanelError, match=r"a name or a fusion\.Operator"):
        get_operator(np.mean)


@pytest.mark.parametrize(
    ("name", "params", "values"),
    [
        ("trimmed_mean", {}, (1 / 3, 2.0, 0.75, 2 / 7)),
        ("median", {}, (1.0, 2.0, 4 / 3, 1.25)),
        ("geometric_median", {}, (1.0, 2.0, 2.5, 1.25)),
        ("multi_krum", {}, (1.50, 10.5, 3.61, 1.27)),
        ("krum", {}, (4.89, 14.9, 7.49, 4.57)),
        ("krum", {"neighbors": "n-f-2"}, (6.93, np.inf, 9.78, 5.42)),
        ("mean", {}, (np.inf,) * 4),
        ("winsorized_mean", {}, (0.36, 2.0, 0.96, 0.463)),
        ("smea", {}, (1.33, 8.0, 3.0, 1.14)),
        ("minimum_variance_averaging", {}, (1.33, 8.0, 3.0, 1.14)),
        ("phocas", {}, (1.33, 8.0, 3.0, 1.14)),
        ("mean_around_median", {}, (2.0, 8.0, 4.0, 2.0)),
        ("aksel", {}, (2.0, 8.0, 4.0, 2.0)),
        ("minimum_diameter_averaging", {}, (1.65, 9.29, 6.10, 2.18)),
        ("medoid", {}, (3.56, 18.0, 6.12, 3.31)),
        ("monna", {}, (4.0, 8.0, 12.0, 8.0)),
        ("caf", {}, (np.inf,) * 4),
        ("bulyan", {}, (np.inf,) * 4),
    ],
)
def test_resilience_at_the_published_places(name, params, values):
    for (n, f), value in zip(((5, 1), (5, 2), (10, 3), (11, 2)), values, strict=True):
        assert operator_row(name).resilience(n, f, **params).value == pytest.approx(value, rel=4e-3)


def test_no_promise_beyond_half():
    for name in operator_names():
        assert operator_row(name).resilience(4, 2).value == np.inf
        assert operator_row(name).resilience(4, 2).kind == "none"
    assert operator_row("multi_krum").resilience(9, 2, m=8).value == np.inf
    assert operator_row("mean").resilience(4, 0).value == 0.0


def test_the_table_has_a_line_per_operator():
    lines = operator_table().splitlines()
    assert len(lines) == len(operator_names()) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_rules_without_a_class_are_refused():
    with pytest.raises(PanelError, match="Operator is no rule by itself"):
        fusion.Operator()(np.zeros((3, 2)))


def test_mid_operators_are_named_and_built_here_too():
    import fusion.mid as mid

    assert operator_names("mid") == mid.mid_operator_names()
    assert not set(operator_names("mid")) & set(operator_names()) - {"mean"}
    built = get_operator("gated", width=8, n_views=3)
    assert isinstance(built, mid.GatedFusion)
    assert type(get_operator("mean")).__name__ == "Mean"
