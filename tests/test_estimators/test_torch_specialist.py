"""Torch modules as specialists: frozen or trained, seeded, by views, without touching torch's global state."""

import pickle
import threading

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_regressor
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from estimators import RobustFusionClassifier, RobustFusionRegressor, Views, make_fusion  # noqa: E402
from estimators.torch_specialist import TorchSpecialist  # noqa: E402
from theory import FaultWarning, PanelError  # noqa: E402

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def net(n_outputs=3, dropout=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, n_outputs))


def trained(**params):
    return TorchSpecialist(net(), loss="cross_entropy", **{"learning_rate": 0.02, "epochs": 60} | params)


def test_training_learns_labels_and_leaves_the_given_module_alone():
    module = net()
    before = [p.clone() for p in module.parameters()]
    one = TorchSpecialist(module, loss="cross_entropy", learning_rate=0.02, epochs=60).fit(X, NAMES[Y])
    assert one.score(X, NAMES[Y]) > 0.95
    assert one.classes_.tolist() == NAMES.tolist()
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    proba = one.predict_proba(X)
    assert proba.dtype == np.float64 and np.allclose(proba.sum(axis=1), 1)


def test_same_seed_same_bits_whatever_the_global_state():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = trained().fit(X, Y).predict_proba(X)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    assert np.array_equal(trained().fit(X, Y).predict_proba(X), first)
    assert not np.array_equal(trained(random_state=1).fit(X, Y).predict_proba(X), first)


def test_a_frozen_module_is_shared_and_answers_in_evaluation_mode():
    module = net(dropout=0.9).train()
    one = TorchSpecialist(module, classes=NAMES).fit(X, Y)
    assert clone(one).model is module and module.training
    with torch.no_grad():
        expected = module.eval()(torch.as_tensor(X, dtype=torch.float32)).double().softmax(1).numpy()
    assert np.array_equal(one.predict_proba(X), expected)
    assert np.allclose(
        TorchSpecialist(module, classes=NAMES, batch_size=7).fit(X, Y).predict_proba(X), expected
    )
    soft = TorchSpecialist(nn.Sequential(module, nn.Softmax(1)), classes=NAMES, method="proba").fit(X, Y)
    assert np.allclose(soft.predict_proba(X), expected, atol=1e-6)
    assert np.array_equal(pickle.loads(pickle.dumps(one)).predict_proba(X), expected)


def test_embeddings_of_a_layer_and_of_absent_views():
    module = net()
    one = TorchSpecialist(module, classes=NAMES, layer="1", view="flower")
    gaps = X.copy()
    gaps[3] = np.nan
    found = one.fit(Views(flower=gaps), Y).embed(Views(flower=gaps))
    with torch.no_grad():
        expected = module[1](module[0](torch.as_tensor(X, dtype=torch.float32))).double().numpy()
    assert np.isnan(found[3]).all()
    assert np.allclose(np.delete(found, 3, 0), np.delete(expected, 3, 0), atol=1e-6)
    with pytest.raises(PanelError, match=r"layer='9' names no submodule; there are \['0', '1', '2', '3'\]"):
        TorchSpecialist(module, classes=NAMES, layer="9").embed(X)


def test_in_a_team_beside_other_kinds():
    team = [("net", trained()), ("line", LogisticRegression(max_iter=500))]
    clf = RobustFusionClassifier(team, cv=3).fit(X, NAMES[Y])
    assert clf.score(X, NAMES[Y]) > 0.95 and clf.solo_scores_["net"] > 0.9
    frozen = TorchSpecialist(clf.named_estimators_["net"].model_.module, classes=NAMES)
    again = RobustFusionClassifier([("net", frozen), team[1]], cv=3).fit(X, NAMES[Y])
    assert np.allclose(
        again.oof_panel_.sel(specialist="net").values, frozen.fit(X, Y).predict_proba(X), atol=1e-6
    )
    broken = TorchSpecialist(nn.Linear(7, 3), classes=NAMES, on_error="abstain")
    with pytest.warns(FaultWarning, match="specialist 'net' failed and abstains: RuntimeError"):
        RobustFusionClassifier([("net", broken), team[1]], cv="none").fit(X, NAMES[Y]).predict(X)
    assert [name for name, _ in make_fusion(trained()).estimators] == ["sequential"]


def test_regression_with_one_and_two_outputs():
    for n_outputs in (1, 2):
        one = TorchSpecialist(net(n_outputs), task="regression", loss="mse", learning_rate=0.02, epochs=80)
        target = X[:, 2] if n_outputs == 1 else X[:, 2:]
        assert is_regressor(one)
        assert one.fit(X, target).score(X, target) > 0.9
        assert one.predict(X).shape == target.shape
        fused = RobustFusionRegressor([("a", one), ("b", clone(one).set_params(random_state=3))], cv=2)
        assert fused.fit(X, target).predict(X).shape == target.shape


def test_weights_reach_a_loss_given_by_name():
    weight = (Y != 2).astype(float)
    one = trained().fit(X, Y, sample_weight=weight)
    assert (one.predict(X) == Y)[Y != 2].mean() > 0.95 > (one.predict(X) == Y)[Y == 2].mean() + 0.5
    own = TorchSpecialist(net(), loss=lambda said, truth: nn.functional.cross_entropy(said, truth))
    assert not own.use_weights
    own.fit(X, Y, sample_weight=weight)


def test_sparse_input_is_the_dense_one():
    table = sparse.csr_matrix(X)
    assert np.array_equal(trained().fit(table, Y).predict_proba(table), trained().fit(X, Y).predict_proba(X))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"model": LogisticRegression()}, "model must be a torch.nn.Module; got LogisticRegression"),
        ({"task": "ranking"}, "task must be one of"),
        ({"method": "votes"}, "method must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"epochs": 0}, "epochs must be a whole number >= 1"),
        ({"loss": None}, "is fitted already. Give classes="),
        ({"on_error": "pass"}, "on_error must be"),
        ({"loss": None, "classes": [1, 1, 2]}, "two or more different labels"),
    ],
)
def test_bad_parameters_are_refused(params, text):
    with pytest.raises(PanelError, match=text):
        TorchSpecialist(**{"model": net(), "loss": "cross_entropy"} | params).fit(X, Y)


class Squeezed(nn.Module):
    """Numbers without an axis for outputs, as many networks give them."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 1)

    def forward(self, x):
        return self.line(x).squeeze(-1)


def test_outputs_without_an_axis_are_trained_sample_by_sample():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    flat = TorchSpecialist(Squeezed(), task="regression", loss="mse", epochs=60, learning_rate=0.1)
    assert flat.fit(x, x @ [1.0, 2.0, 3.0]).score(x, x @ [1.0, 2.0, 3.0]) > 0.99


def test_no_batch_is_left_with_one_sample():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(17, 3))
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    fitted = TorchSpecialist(net, loss="cross_entropy", epochs=1, batch_size=8).fit(x, np.arange(17) % 2)
    assert fitted.predict_proba(x).shape == (17, 2)


def test_given_classes_keep_their_order_and_serve_folds_that_lack_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = np.where(x[:, 0] > 0, "no", "yes")
    net = TorchSpecialist(
        nn.Linear(3, 3), loss="cross_entropy", classes=["yes", "so", "no"], epochs=30, learning_rate=0.1
    )
    fitted = net.fit(x, y)
    assert fitted.classes_.tolist() == ["yes", "so", "no"] and fitted.score(x, y) > 0.9
    with pytest.raises(
        PanelError, match=r"y holds \['maybe'\], which are not among classes=\['yes', 'so', 'no'\]"
    ):
        net.fit(x, np.where(x[:, 0] > 0, "no", "maybe"))


@pytest.mark.parametrize(
    ("net", "params", "text"),
    [
        (nn.Linear(3, 1), {"loss": "cross_entropy"}, "gives 1 outputs for 2 classes. Change its last layer"),
        (nn.Linear(3, 3), {"loss": "cross_entropy"}, "gives 3 outputs for 2 classes"),
        (nn.Linear(3, 2), {"loss": "mse", "task": "regression"}, "gives 2 outputs for 1 targets"),
        (
            nn.Linear(3, 2),
            {"loss": "cross_entropy", "learning_rate": float("inf")},
            "not finite after training",
        ),
    ],
)
def test_modules_that_do_not_fit_the_truth_say_so(net, params, text):
    x = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(PanelError, match=text):
        TorchSpecialist(net, epochs=1, **params).fit(x, np.arange(20) % 2)


def test_threads_that_share_a_frozen_module_do_not_switch_its_mode_under_each_other():
    net = nn.Sequential(nn.Linear(3, 200), nn.Dropout(0.5), nn.Linear(200, 2))
    net[0].eval()  # each part gets its own mode back
    frozen = TorchSpecialist(net, classes=[0, 1], layer="1", batch_size=4).fit(None, None)
    x = np.random.default_rng(0).normal(size=(120, 3))
    answer, inner = frozen.predict_proba(x), frozen.embed(x)
    wrong = []

    def ask():
        for _ in range(6):
            wrong.append(not np.array_equal(clone(frozen).fit(None, None).predict_proba(x), answer))
            wrong.append(not np.array_equal(frozen.embed(x), inner))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 48 and not any(wrong)
    assert [part.training for part in net.modules()] == [True, False, True, True]


def test_no_sample_is_left_out_for_want_of_a_truth():
    member = trained()
    for y, weight in ((Y[:50], None), (np.r_[Y, Y], None), (Y, np.ones(300))):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            member.fit(X, y, sample_weight=weight)
