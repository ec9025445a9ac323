"""Digits seen and heard, against the data's README."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest

import estimators.datasets._archives as archives
from estimators import load_av_digits, load_view_task, view_task_names
from fusion.early import Ragged
from theory import PanelError


def test_recordings_are_those_of_the_readme():
    raw = np.load(archives.DATA / "av_digits" / "av_digits.npz")
    assert hashlib.sha256(raw["code"].tobytes()).hexdigest()[:16] == "4abf2e42e3c1da93"
    data = load_av_digits("av", ragged=True)
    sounds = data.X["audio"]
    assert isinstance(sounds, Ragged)
    assert sounds.shape == (1797, 20)
    assert sounds.lengths.min() >= 12
    np.testing.assert_array_equal(data.y, raw["digit"][raw["pair_audio"].astype(int)])
    for i in range(0, 1797, 311):
        r = int(raw["pair_audio"][i])
        frames = 0.1 * raw["code"][raw["offsets"][r] : raw["offsets"][r + 1]].astype(float) - 17.0
        np.testing.assert_allclose(sounds[i], frames, rtol=0, atol=1e-12)
        pooled = load_av_digits("av").X["audio"][i]
        segments = [part.mean(axis=0) for part in np.array_split(frames, 5)]
        expected = np.concatenate([frames.mean(axis=0), frames.std(axis=0), *segments, [len(frames)]])
        np.testing.assert_allclose(pooled, expected, rtol=1e-9, atol=1e-12)


def test_views_of_a_sample_show_the_same_digit():
    from sklearn.datasets import load_digits

    raw = np.load(archives.DATA / "av_digits" / "av_digits.npz")
    data = load_av_digits("tri")
    np.testing.assert_array_equal(load_digits().target[raw["pair_image"].astype(int)], data.y)
    np.testing.assert_array_equal(raw["pair_map"].astype(int) // 200, data.y)
    assert len(set(raw["pair_audio"].tolist())) == 1797
    panel = load_av_digits("panel")
    assert panel.X.shape == (500, 64 + 6 * 141)
    np.testing.assert_array_equal(panel.y, np.repeat(np.arange(10), 50))
    assert (panel.speaker == -1).all()
    assert set(data.speaker) == set(range(6))


def test_pairing_is_disclosed():
    for name in view_task_names():
        task = load_view_task(name)
        random = "random within a class" in task.pairing
        assert random == (name in ("av_digits", "tri_digits", "speaker_panel"))
    data = load_av_digits()
    assert "CC BY-SA 4.0" in data.licence
    assert data.description.startswith("# av_digits")


def test_digits4_has_the_stated_parts():
    X = load_view_task("digits4").X
    assert {name: X[name].shape[1] for name in X} == {
        "pixels": 64,
        "fourier": 40,
        "sums": 31,
        "gradients": 32,
    }
    image = X["pixels"][7].reshape(8, 8)
    np.testing.assert_allclose(X["fourier"][7], np.abs(np.fft.fft2(image))[:, :5].ravel())
    sums = [*image.sum(axis=1), *image.sum(axis=0), *(np.trace(image, k) for k in range(-7, 8))]
    np.testing.assert_allclose(X["sums"][7], sums)
    down, right = np.gradient(image)
    assert X["gradients"][7].sum() == pytest.approx(np.hypot(down, right).sum())


def test_missing_and_damaged_files_are_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="CC BY-SA"):
        load_av_digits(path=tmp_path)
    shutil.copy(archives.DATA / "av_digits" / "av_digits.npz", tmp_path / "av_digits.npz")
    assert len(load_av_digits(path=tmp_path).y) == 1797
    content = bytearray((tmp_path / "av_digits.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "av_digits.npz").write_bytes(content)
    with pytest.raises(PanelError, match="SHA-256"):
        load_av_digits(path=tmp_path)
    with pytest.raises(PanelError, match="task is 'av', 'tri' or 'panel'"):
        load_av_digits("video")
    with pytest.raises(PanelError, match="there is no task 'mnist'"):
        load_view_task("mnist")
