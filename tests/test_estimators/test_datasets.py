"""The loaders against the figures in the data's READMEs."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest

import estimators.datasets._archives as archives
import estimators.datasets.llm_panels as llm_panels
from estimators.datasets import LLMPanel, llm_panel_names, load_llm_panel, load_mfeat
from theory import PanelError

# samples, specialists, lowest and highest accuracy, samples where nobody is right: the README's table
PANELS = {
    "mmlupro": (8970, 28, 0.184, 0.703, 491),
    "cruxeval": (600, 51, 0.240, 0.963, 3),
    "mathl5": (541, 41, 0.050, 0.902, 14),
    "gsm8k": (989, 43, 0.521, 0.969, 4),
}
# features, lowest, highest value, first 16 hex digits of the SHA-256 of the stored bytes, stored dtype
VIEWS = {
    "fou": (76, 0.00017629, 0.79649, "89ff0f9e80940633", "float32"),
    "fac": (216, 0, 1353, "66a9d6493b41f271", "uint16"),
    "kar": (64, -16.459, 17.049, "e466a367517165c5", "float32"),
    "pix": (240, 0, 6, "306002aa9f8e42d6", "uint8"),
    "zer": (47, 0.0010943, 777.86, "e5f43c8bdacd9ff5", "float32"),
    "mor": (6, 0, 17572, "e66a7018485fbd79", "float32"),
}


@pytest.fixture(scope="module")
def panels() -> dict[str, LLMPanel]:
    return {name: load_llm_panel(name) for name in llm_panel_names()}


def test_mfeat_has_the_views_of_its_readme():
    digits = load_mfeat()
    assert digits.names == tuple(VIEWS) == tuple(digits.views)
    for name, (n_features, low, high, sha, dtype) in VIEWS.items():
        view = digits.views[name]
        assert view.shape == (2000, n_features)
        assert view.dtype == np.float64
        np.testing.assert_allclose([view.min(), view.max()], [low, high], rtol=1e-4)
        # float64 and back keeps every stored value, so the raw checksums must come out again
        assert hashlib.sha256(view.astype(dtype).tobytes()).hexdigest()[:16] == sha
    np.testing.assert_array_equal(digits.y, np.arange(2000) // 200)
    assert digits.y.dtype == np.int64
    assert "10.24432/C5HC70" in digits.provenance
    assert "CC BY 4.0" in digits.licence
    assert digits.description.startswith("# mfeat")


def test_mfeat_arrays_are_fresh_at_each_call():
    first = load_mfeat()
    first.views["fou"][:] = 0.0
    assert load_mfeat().views["fou"].min() > 0


def test_names_are_those_of_the_readme():
    assert llm_panel_names() == tuple(PANELS)


@pytest.mark.parametrize("name", PANELS)
def test_llm_panel_has_the_figures_of_its_readme(panels, name):
    panel = panels[name]
    n_samples, n_specialists, low, high, nobody = PANELS[name]
    assert panel.answers.shape == (n_samples, n_specialists)
    assert panel.specialist.shape == panel.family.shape == (n_specialists,)
    assert len(set(panel.specialist)) == n_specialists
    accuracy = panel.correct.mean(axis=0)
    np.testing.assert_allclose([accuracy.min(), accuracy.max()], [low, high], atol=5e-4)
    assert int((~panel.correct.any(axis=1)).sum()) == nobody
    assert panel.answers.min() == -1
    assert (panel.answers < panel.n_options[:, None]).all()
    assert panel.gold.min() >= 0
    assert len(np.unique(panel.sample_id)) == n_samples
    assert panel.open == (name != "mmlupro")
    if panel.open:  # nobody is right exactly where the gold code says so
        np.testing.assert_array_equal(panel.gold == panel.n_options, ~panel.correct.any(axis=1))
    else:
        assert (panel.gold < panel.n_options).all()
        assert (panel.n_options.min(), panel.n_options.max()) == (3, 10)
    for array in (panel.answers, panel.gold, panel.n_options, panel.sample_id):
        assert array.dtype == np.int64
    assert "commit" in panel.provenance
    assert "Apache" in panel.licence
    for extra in panel.arrays.values():
        assert extra.dtype != object


def test_mmlupro_best_accuracy_and_mean_error_correlation(panels):
    panel = panels["mmlupro"]
    assert round(panel.correct.mean(axis=0).max(), 4) == 0.7026
    upper = np.triu_indices(28, 1)
    assert round(np.corrcoef(panel.errors.T)[upper].mean(), 4) == 0.3546
    np.testing.assert_array_equal(panel.errors, 1.0 - panel.correct)


def test_random_letters_are_abstentions_and_kept_apart(panels):
    panel = panels["mmlupro"]
    letters = panel.arrays["random_letter"]
    drawn = letters >= 0
    assert drawn.sum() == 1492
    assert sorted(drawn.sum(axis=0)[drawn.any(axis=0)]) == [157, 171, 196, 458, 510]
    assert (panel.answers[drawn] == -1).all()
    right = (letters == panel.gold[:, None])[drawn].mean()
    assert round(right, 3) == 0.094
    assert round((panel.answers == -1).mean(axis=0).max(), 2) == 0.21


def test_arrays_hold_what_the_readme_lists(panels):
    assert set(panels["mmlupro"].arrays) == {
        "output_chars", "category", "category_name", "source", "source_name", "x", "hedges", "steps",
        "options_mentioned", "question_chars", "random_letter",
    }  # fmt: skip
    assert (
        set(panels["gsm8k"].arrays)
        == set(panels["mathl5"].arrays)
        == {"output_chars", "option_value", "gold_value"}
    )
    assert set(panels["cruxeval"].arrays) == {"output_chars"}
    assert panels["mathl5"].arrays["option_value"].shape[0] == 541


@pytest.mark.parametrize("name", PANELS)
def test_votes_agree_with_a_loop(panels, name):
    panel = panels[name]
    assert panel.votes is panel.votes, "votes should be built once"
    assert panel.votes.shape == (*panel.answers.shape, panel.n_classes)
    assert panel.gold.max() < panel.n_classes
    rng = np.random.default_rng(0)
    for sample in rng.choice(len(panel.answers), 20, replace=False):
        for k, answer in enumerate(panel.answers[sample]):
            expected = np.zeros(panel.n_classes)
            if answer >= 0:
                expected[answer] = 1.0
            np.testing.assert_array_equal(panel.votes[sample, k], expected)
    if panel.open:  # nobody votes for "none of these"
        rows = np.arange(len(panel.gold))
        assert panel.votes[rows, :, panel.n_options].sum() == 0


def test_dataset_carries_names(panels):
    panel = panels["gsm8k"]
    dataset = panel.to_dataset()
    assert dict(dataset.sizes) == {"sample": 989, "specialist": 43}
    best = panel.correct.mean(axis=0).argmax()
    np.testing.assert_array_equal(
        dataset.answers.sel(specialist=panel.specialist[best]), panel.answers[:, best]
    )
    assert set(dataset.coords) == {"sample", "specialist", "family"}


def test_frozen():
    with pytest.raises(AttributeError):
        load_mfeat().y = 0


def test_path_may_be_file_or_folder(tmp_path):
    shutil.copy(archives.DATA / "llm_panels" / "gsm8k.npz", tmp_path / "gsm8k.npz")
    shutil.copy(archives.DATA / "llm_panels" / "gsm8k.npz", tmp_path / "renamed.npz")
    for path in (tmp_path, str(tmp_path), tmp_path / "gsm8k.npz", tmp_path / "renamed.npz"):
        assert load_llm_panel("gsm8k", path=path).answers.shape == (989, 43)


def test_wheel_without_panels_says_why_and_where(monkeypatch, tmp_path):
    monkeypatch.setattr(llm_panels, "DATA", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"wheel leaves out.*terms.*repository.*path=FOLDER"):
        load_llm_panel("mathl5")
    with pytest.raises(FileNotFoundError, match=r"no file .*mathl5\.npz; path= takes"):
        load_llm_panel("mathl5", path=tmp_path)


def test_damaged_file_is_refused(tmp_path):
    content = bytearray((archives.DATA / "llm_panels" / "gsm8k.npz").read_bytes())
    content[5000] ^= 1
    (tmp_path / "gsm8k.npz").write_bytes(content)
    with pytest.raises(PanelError, match=r"gsm8k\.npz has the SHA-256 .* was needed\. The file is damaged"):
        load_llm_panel("gsm8k", path=tmp_path)


def test_another_panel_under_this_name_is_refused(tmp_path):
    shutil.copy(archives.DATA / "llm_panels" / "mathl5.npz", tmp_path / "gsm8k.npz")
    with pytest.raises(PanelError, match="of another version"):
        load_llm_panel("gsm8k", path=tmp_path)


def test_unknown_name_names_the_near_one():
    with pytest.raises(
        PanelError, match=r"no panel is called 'mmlu_pro'; there are mmlupro, .* mean 'mmlupro'\?"
    ):
        load_llm_panel("mmlu_pro")
