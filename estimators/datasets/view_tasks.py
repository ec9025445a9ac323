"""Every multi-view task at hand behind one name, for comparisons of where to fuse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine

from estimators.datasets.av_digits import load_av_digits
from estimators.datasets.mfeat import load_mfeat
from estimators.views import Views
from theory import PanelError

_PARTS = "The views are parts of the same measurements of one sample: their errors may well be correlated."
_NAMES = ("mfeat", "av_digits", "tri_digits", "speaker_panel", "digits4", "breast_cancer", "wine", "diabetes")


@dataclass(frozen=True, eq=False)
class ViewTask:
    """Samples with several views, as returned by :func:`load_view_task`.

    Attributes
    ----------
    name : str
        Of the task.
    X : Views
        The views.
    y : ndarray of shape (sample,)
        Class labels (int64), or numbers (float64) of "diabetes".
    pairing : str
        How the views belong together; say so wherever the data are used.

    Examples
    --------
    >>> from estimators import load_view_task
    >>> load_view_task("wine").X.names
    ('taste', 'phenols', 'colour')
    """

    name: str
    X: Views
    y: np.ndarray
    pairing: str


def view_task_names() -> tuple[str, ...]:
    """Name the tasks.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> from estimators import view_task_names
    >>> view_task_names()[:2]
    ('mfeat', 'av_digits')
    """
    return _NAMES


def load_view_task(name: str) -> ViewTask:
    """Load a task with several views.

    Parameters
    ----------
    name : str
        One of :func:`view_task_names`.

    Returns
    -------
    ViewTask

    Raises
    ------
    PanelError
        If there is no such task.

    Notes
    -----
    "digits4" describes one 8 x 8 image by its pixels, the magnitudes of its Fourier transform, sums along rows,
    columns and diagonals, and histograms of gradient orientations. Breast cancer: means, standard errors, worst
    values. Wine: columns 0-4, 5-8, 9-12. Diabetes: columns 0-3, 4-7, 8-9.

    Examples
    --------
    >>> from estimators import load_view_task
    >>> {name: view.shape[1] for name, view in ((n, load_view_task("digits4").X[n]) for n in ("pixels", "fourier"))}
    {'pixels': 64, 'fourier': 40}
    """
    if name not in _NAMES:
        raise PanelError(f"there is no task {name!r}. Use one of {', '.join(_NAMES)}.")
    if name == "mfeat":
        digits = load_mfeat()
        return ViewTask(name, Views(digits.views), digits.y, "Six descriptors of the same numeral.")
    if name in ("av_digits", "tri_digits", "speaker_panel"):
        task = {"av_digits": "av", "tri_digits": "tri", "speaker_panel": "panel"}[name]
        loaded = load_av_digits(task)  # type: ignore[arg-type]
        return ViewTask(name, loaded.X, loaded.y, loaded.pairing)
    if name == "digits4":
        images = load_digits()
        return ViewTask(name, Views(image_views(images.images)), images.target.astype(np.int64), _PARTS)
    loader, cuts = {
        "breast_cancer": (load_breast_cancer, {"mean": (0, 10), "error": (10, 20), "worst": (20, 30)}),
        "wine": (load_wine, {"taste": (0, 5), "phenols": (5, 9), "colour": (9, 13)}),
        "diabetes": (load_diabetes, {"body": (0, 4), "lipids": (4, 8), "serum": (8, 10)}),
    }[name]
    X, y = loader(return_X_y=True)
    views = Views({part: X[:, lo:hi] for part, (lo, hi) in cuts.items()})
    return ViewTask(name, views, y.astype(np.float64 if name == "diabetes" else np.int64), _PARTS)


def image_views(images: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Describe small square images in four ways.

    Parameters
    ----------
    images : ndarray of shape (sample, 8, 8)
        Grey values.

    Returns
    -------
    dict of str to ndarray of shape (sample, feature)
        ``pixels`` (64), ``fourier`` (40), ``sums`` (31), ``gradients`` (32).
    """
    images = np.asarray(images, dtype=np.float64)
    n, side = images.shape[:2]
    spectrum = np.abs(np.fft.fft2(images))[:, :, : side // 2 + 1]
    diagonals = [np.trace(images, offset=k, axis1=1, axis2=2) for k in range(1 - side, side)]
    down, right = np.gradient(images, axis=(1, 2))
    size, angle = np.hypot(down, right), np.mod(np.arctan2(down, right), np.pi)
    bins = np.minimum((angle / np.pi * 8).astype(int), 7)
    half = side // 2
    histograms = []
    for rows in (slice(0, half), slice(half, side)):
        for columns in (slice(0, half), slice(half, side)):
            where, mass = bins[:, rows, columns].reshape(n, -1), size[:, rows, columns].reshape(n, -1)
            histograms.append(np.stack([(mass * (where == b)).sum(axis=1) for b in range(8)], axis=1))
    return {
        "pixels": images.reshape(n, -1),
        "fourier": spectrum.reshape(n, -1),
        "sums": np.concatenate([images.sum(axis=2), images.sum(axis=1), np.stack(diagonals, axis=1)], axis=1),
        "gradients": np.concatenate(histograms, axis=1),
    }
