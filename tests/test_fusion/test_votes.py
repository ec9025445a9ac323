"""Votes, decisions and the simplex."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fusion import decide, plurality_vote, project_to_simplex, vote_shares, vote_weights
from theory import BudgetError, PanelError


def test_votes_from_scores_and_from_labels_agree():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 7, 4))
    weights = rng.uniform(size=(50, 7))
    for given_weights in (None, weights, weights[0]):
        by_score = plurality_vote(scores, weights=given_weights)
        by_label = vote_shares(scores.argmax(axis=2), n_outputs=4, weights=given_weights)
        np.testing.assert_allclose(by_score, by_label, rtol=1e-12)
        np.testing.assert_allclose(by_score.sum(axis=1), 1.0)
    # A specialist's own tie goes to its first output.
    np.testing.assert_array_equal(plurality_vote([[0.5, 0.5], [0.1, 0.9], [1.0, 1.0]]).round(2), [0.67, 0.33])


def test_abstentions_are_not_counted():
    shares = vote_shares([[0, -1, 1], [2, 2, -1]], weights=[1, 5, 3])
    np.testing.assert_allclose(shares, [[0.25, 0.75, 0.0], [0, 0, 1]])
    with pytest.raises(BudgetError, match="nobody voted in sample 1"):
        vote_shares([[0, 1], [-1, -1]])
    with pytest.raises(BudgetError, match="nobody voted in sample 0"):
        vote_shares([[0, -1]], weights=[0, 1])
    assert np.isnan(vote_shares([[0, 1], [-1, -1]], excess="nan")[1]).all()
    with pytest.raises(PanelError, match="Raise n_outputs"):
        vote_shares([[0, 3]], n_outputs=3)


def test_weights_from_accuracies():
    weights = vote_weights([0.9, 0.5, 0.2, 1.0], n_outputs=4)
    np.testing.assert_allclose(weights, [np.log(27), np.log(3), 0, np.log(3 * 999)], rtol=1e-12)
    assert vote_weights([0.2], n_outputs=4, allow_negative=True)[0] == pytest.approx(np.log(0.75))
    with pytest.raises(PanelError, match="Give shares, not percent"):
        vote_weights([90.0], n_outputs=2)
    with pytest.raises(PanelError, match="at least 2"):
        vote_weights([0.9], n_outputs=1)


def test_decisions():
    shares = np.array([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7], [np.nan] * 3, [1 / 3, 1 / 3, 1 / 3]])
    assert decide(shares).tolist() == [0, 2, -1, 0]
    assert decide(shares, ties="abstain").tolist() == [-1, 2, -1, -1]
    assert decide(shares, ties="prior", prior=[0.1, 0.2, 0.7]).tolist() == [1, 2, -1, 2]
    drawn = np.array([decide(shares, ties="random", rng=np.random.default_rng(seed)) for seed in range(300)])
    assert set(drawn[:, 0]) == {0, 1}
    assert set(drawn[:, 3]) == {0, 1, 2}
    assert (drawn[:, 1] == 2).all()
    assert decide(shares).dtype == np.int64
    assert decide([0.2, 0.8]) == 1
    with pytest.raises(PanelError, match="needs a Generator"):
        decide(shares, ties="random")
    with pytest.raises(PanelError, match="needs a prior of shape"):
        decide(shares, ties="prior", prior=[1.0])
    with pytest.raises(PanelError, match="ties must be one of"):
        decide(shares, ties="first")


@given(hnp.arrays(np.float64, st.integers(1, 5), elements=st.floats(-100, 100)))
def test_projection_equals_its_twin(row):
    point = project_to_simplex(row)
    np.testing.assert_allclose(point, reference.project_to_simplex(row), atol=1e-9)
    assert point.sum() == pytest.approx(1.0)
    assert point.min() >= 0
    assert point[row.argmax()] == point.max()


@given(hnp.arrays(np.float64, (2, 4), elements=st.floats(-10, 10)))
def test_projection_does_not_expand(rows):
    one, other = project_to_simplex(rows)
    assert np.linalg.norm(one - other) <= np.linalg.norm(rows[0] - rows[1]) + 1e-9


def test_projection_of_odd_rows():
    np.testing.assert_allclose(project_to_simplex(np.zeros(4)), 0.25)
    np.testing.assert_allclose(project_to_simplex(np.full(4, 1e9)), 0.25)
    np.testing.assert_allclose(project_to_simplex([1e9, 0.0]), [1.0, 0.0])
    with pytest.raises(PanelError, match="1 non-finite values"):
        project_to_simplex([np.nan, 1.0])
    with pytest.raises(PanelError, match="shape"):
        project_to_simplex(3.0)


def test_kinds_of_arrays():
    torch = pytest.importorskip("torch")
    xr = pytest.importorskip("xarray")
    rows = np.array([[0.7, 0.6], [-1.0, 3.0]])
    expected = project_to_simplex(rows)
    tensor = torch.as_tensor(rows, dtype=torch.float32)
    assert project_to_simplex(tensor).dtype == torch.float32
    np.testing.assert_allclose(project_to_simplex(tensor).numpy(), expected, atol=1e-7)
    assert decide(tensor).tolist() == [0, 1]
    exact = torch.as_tensor(rows).requires_grad_()
    np.testing.assert_allclose(project_to_simplex(exact).detach().numpy(), expected)
    assert torch.autograd.gradcheck(project_to_simplex, (exact,))
    array = xr.DataArray(rows.T, dims=("output", "sample"), coords={"sample": [5, 6]})
    np.testing.assert_allclose(project_to_simplex(array).transpose("sample", "output").values, expected)
    labels = decide(array)
    assert labels.dims == ("sample",)
    assert labels.values.tolist() == [0, 1]
    assert labels.coords["sample"].values.tolist() == [5, 6]
