"""Where to fuse: the protocol is fair, the corruptions are what they say, the intervals are honest."""

from __future__ import annotations

import numpy as np
import pytest

from estimators import Views, compare_stages, equal_budget_experiment, load_view_task
from estimators.stages.comparison import StageComparison, _holm
from estimators.stages.corruption import condition_names, corrupt
from theory import PanelError

QUICK = {"seeds": 2, "n_draws": 1, "max_iter": 12, "n_bootstrap": 300}


@pytest.fixture(scope="module")
def wine():
    task = load_view_task("wine")
    return task, compare_stages(task.X, task.y, budget=1500, **QUICK)


def test_every_stage_is_run_within_the_budget(wine):
    task, found = wine
    data = found.dataset
    assert {"early", "mid", "late", "deliberative", "single"} == set(data.stage.values.tolist())
    assert {"monolith", "shuffled_groups", "grouped", "best_view"} <= set(data.arm.values.tolist())
    assert data.condition.values.tolist() == ["clean", "absent", "wrong_1", "noise"]
    networks = data.n_parameters.sel(
        arm=["monolith", "grouped", "shuffled_groups", "mid_mean", "mid_median", "late_mean"]
    )
    assert (networks <= 1500).all()
    assert (networks >= 0.9 * 1500).all()
    np.testing.assert_allclose(data.right.mean("row"), data.accuracy)
    assert data.accuracy.sel(condition="clean").mean("seed").min() > 0.7
    assert data.attrs["n_test"] == len(task.y) - sum(np.bincount(task.y) // 2)


def test_table_and_words_and_picture(wine):
    _, found = wine
    table = found.table()
    assert len(table) == 12 * 4
    own = table[table.arm == "monolith"]
    assert (own.minus_monolith == 0).all()
    rest = table[table.arm != "monolith"]
    assert ((rest.low <= rest.minus_monolith + 1e-12) & (rest.minus_monolith <= rest.high + 1e-12)).all()
    assert rest.p_holm.between(0, 1).all()
    text = found.summary()
    assert text.count("best single view") == 4
    import matplotlib as mpl

    mpl.use("Agg")
    ax = found.plot()
    assert len(ax.get_yticklabels()) == 12
    assert found.best("single") == "best_view"
    with pytest.raises(PanelError, match="no arm of stage 'medium' was run"):
        found.best("medium")
    with pytest.raises(PanelError, match="condition 'fire' is not in the comparison"):
        found.difference("mid_mean", "monolith", "fire")


def test_same_seeds_same_bits(wine):
    task, found = wine
    again = compare_stages(
        task.X, task.y, budget=1500, arms=["mid_mean"], conditions=["clean", "absent"], **QUICK
    )
    for arm in ("mid_mean", "monolith", "best_view"):
        for condition in ("clean", "absent"):
            np.testing.assert_array_equal(
                again.dataset.right.sel(arm=arm, condition=condition),
                found.dataset.right.sel(arm=arm, condition=condition),
                err_msg=f"{arm} {condition}: arms must not depend on which others are run",
            )


def test_bootstrap_interval_covers_the_truth():
    """A known difference of .05 between two arms, four seeds of 100 rows: 95 % intervals cover it about as often."""
    import xarray as xr

    covered = 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        easy = rng.random((4, 100))
        right = np.stack([easy < 0.80, easy < 0.75])[:, None]
        data = xr.Dataset(
            {
                "right": (("arm", "condition", "seed", "row"), right),
                "accuracy": (("arm", "condition", "seed"), right.mean(axis=3)),
            },
            coords={"arm": ["a", "b"], "condition": ["clean"]},
        )
        _, low, high = StageComparison(data, "b", 200).difference("a", "b")
        covered += low <= 0.05 <= high
    assert covered >= 51


def test_corruptions_are_what_they_say():
    task = load_view_task("tri_digits")
    X, y = task.X.take(np.arange(300)), task.y[:300]
    scale = {name: X[name].std(axis=0) for name in X}
    rng = np.random.default_rng(0)
    absent = corrupt(X, y, "absent", scale=scale, rng=rng)
    assert (sum((~absent.mask[n]).astype(int) for n in X) == 1).all()
    for f in (1, 2):
        wrong = corrupt(X, y, f"wrong_{f}", scale=scale, rng=rng)
        changed = np.stack([(wrong[n] != X[n]).any(axis=1) for n in X], axis=1)
        assert (changed.sum(axis=1) == f).mean() > 0.99
        # What came in is the same view of a sample of another class, the same class in all liars.
        for i in range(0, 300, 37):
            classes = {
                int(c)
                for n, moved in zip(X, changed[i], strict=True)
                if moved
                for c in y[(X[n] == wrong[n][i]).all(axis=1)]
            }
            assert len(classes) == 1
            assert y[i] not in classes
    noisy = corrupt(X, y, "noise", scale=scale, rng=rng)
    moved = np.stack([(noisy[n] != X[n]).any(axis=1) for n in X], axis=1)
    assert (moved.sum(axis=1) == 1).all()
    image = (noisy["image"] - X["image"])[moved[:, 0]][:, scale["image"] > 0] / scale["image"][
        scale["image"] > 0
    ]
    assert image.std() == pytest.approx(3.0, rel=0.05)
    assert corrupt(X, y, "clean", scale=scale, rng=rng) is X
    assert condition_names(7)[-2:] == ("wrong_3", "noise")


def test_holm_steps_down():
    assert _holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["mid_meen"]}, "there is no arm 'mid_meen'"),
        ({"seeds": 1}, "one split says nothing"),
        ({"conditions": ["wrong_9"]}, "wrong_9 needs 9 views; there are 3"),
        ({"conditions": ["fire"]}, "there is no condition 'fire'"),
        ({"n_draws": 0}, "n_draws is at least 1"),
        ({"labels_per_class": 1000}, "leave too few or none to test"),
    ],
)
def test_bad_questions_are_refused(change, message):
    task = load_view_task("wine")
    with pytest.raises(PanelError, match=message):
        equal_budget_experiment(
            task.X, task.y, **{"param_budget": 1000, "arms": [], "max_iter": 1, "n_draws": 1, **change}
        )


def test_one_view_or_numbers_are_refused():
    task = load_view_task("diabetes")
    with pytest.raises(PanelError, match="at least two views"):
        compare_stages(Views(a=task.X["body"]), task.y)
    with pytest.raises(PanelError, match="y holds floats"):
        compare_stages(task.X, task.y)
