"""Spoken digits, ragged, paired with written ones: two, three or seven views."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
from sklearn.datasets import load_digits

from estimators.datasets._archives import DATA, read_archive
from estimators.datasets.mfeat import load_mfeat
from estimators.views import Views
from fusion.early import Ragged, pool_ragged
from theory import PanelError

_SHA256 = "bf99e3cf82c075931a36585e65eb9fb376d6bb566014d940908c41d1c104a6bb"
_N_SPEAKERS = 6
_PAIRING = (
    "The views are paired at random within a class: given the digit they are independent by construction, so the "
    "error correlation is near 0 by design. Never evidence that real modalities are decorrelated."
)


@dataclass(frozen=True, eq=False)
class AVDigits:
    """Digits seen and heard, as returned by :func:`load_av_digits`.

    Attributes
    ----------
    X : Views
        The views.
    y : ndarray of shape (sample,), int64
        The digit.
    speaker : ndarray of shape (sample,), int64
        Who speaks (task "panel": -1, everybody does).
    pairing : str
        How the views were put together; say so wherever the data are used.
    description : str
        The data's README.
    licence : str
        Terms of use.

    Examples
    --------
    >>> from estimators import load_av_digits
    >>> load_av_digits("tri").X
    Views(1797 samples; columns of image: 64, audio: 141, map: 64)
    """

    X: Views
    y: np.ndarray
    speaker: np.ndarray
    pairing: str
    description: str
    licence: str


def load_av_digits(
    task: Literal["av", "tri", "panel"] = "av",
    *,
    ragged: bool = False,
    path: str | PathLike[str] | None = None,
) -> AVDigits:
    """Load spoken digits paired with written ones.

    Parameters
    ----------
    task : {"av", "tri", "panel"}, default "av"
        An 8 x 8 image and a recording (1797 samples); the same and a Karhunen-Loeve map of another writer's digit; or
        an image and the recordings of six speakers (500 samples).
    ragged : bool, default False
        Recordings as sequences of 20 log-mel energies each 10 ms, instead of pooled vectors of 141 numbers.
    path : path-like, optional
        The file ``av_digits.npz`` or its folder; the repository's own unless given.

    Returns
    -------
    AVDigits

    Raises
    ------
    FileNotFoundError
        If the file is not there: the wheel leaves it out, for its licence is CC BY-SA 4.0.
    PanelError
        If the task is unknown or the file is another one.

    Notes
    -----
    Pairing is random within a class, so the views' errors are independent by construction.

    References
    ----------
    Z. Jackson and contributors, "Free Spoken Digit Dataset", 2016, github.com/Jakobovski/free-spoken-digit-dataset.

    Examples
    --------
    >>> from estimators import load_av_digits
    >>> load_av_digits("panel").X.names
    ('image', 'speaker_0', 'speaker_1', 'speaker_2', 'speaker_3', 'speaker_4', 'speaker_5')
    """
    if task not in ("av", "tri", "panel"):
        raise PanelError(f"task is 'av', 'tri' or 'panel'; got {task!r}.")
    file = _locate(path)
    arrays = read_archive(file, sha256=_SHA256)
    sounds = Ragged(0.1 * arrays["code"].astype(np.float64) - 17.0, arrays["offsets"])
    digits = load_digits().data

    def heard(rows: np.ndarray) -> object:
        return sounds[rows] if ragged else pool_ragged(sounds[rows])

    if task == "panel":
        digit, take = np.divmod(np.arange(500), 50)
        views = {"image": digits[arrays["panel_image"].astype(np.int64)]}
        for s in range(_N_SPEAKERS):
            views[f"speaker_{s}"] = heard(digit * 300 + s * 50 + take)
        y, speaker = digit, np.full(500, -1)
    else:
        rows = arrays["pair_audio"].astype(np.int64)
        views = {"image": digits[arrays["pair_image"].astype(np.int64)], "audio": heard(rows)}
        if task == "tri":
            views["map"] = load_mfeat().views["kar"][arrays["pair_map"].astype(np.int64)]
        y, speaker = arrays["digit"][rows].astype(np.int64), arrays["speaker"][rows].astype(np.int64)
    readme = file.with_name("README.md")
    return AVDigits(
        X=Views(views),
        y=y.astype(np.int64),
        speaker=speaker.astype(np.int64),
        pairing=_PAIRING,
        description=readme.read_text(encoding="utf-8") if readme.is_file() else "",
        licence="CC BY-SA 4.0 (features of the Free Spoken Digit Dataset, Z. Jackson and contributors)",
    )


def _locate(path: str | PathLike[str] | None) -> Path:
    file = DATA / "av_digits" / "av_digits.npz"
    if path is not None:
        given = Path(path).expanduser()
        file = given / "av_digits.npz" if given.is_dir() else given
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no file {file}. The wheel leaves it out because its licence is CC BY-SA 4.0: take av_digits.npz "
            "from the repository of consilience and give path=."
        )
    return file
