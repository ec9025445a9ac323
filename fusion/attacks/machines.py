"""What broken machines say: old answers, flipped bits, and one huge row in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fusion.attacks._honest import Lies, copies, need_count, need_number, read_honest
from theory._exceptions import PanelError

_WORDS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def stale(honest: Any, n_byzantine: int, *, rng: np.random.Generator | None = None, lag: int = 1) -> Lies:
    """Answer an earlier sample: the honest mean of the sample `lag` places before.

    Parameters
    ----------
    honest : array-like of shape (..., sample, honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    lag : int, default 1
        How many samples late; the first samples get the last ones' answers.

    Returns
    -------
    ndarray of shape (..., n_byzantine, output)
        The lies, float64 or the floating dtype of `honest`.

    Raises
    ------
    PanelError
        If the honest panel or a parameter cannot be read.

    Notes
    -----
    A panel of one sample has no other: the lie is then its own honest mean. NaN stays.

    References
    ----------
    Damaskinos, El Mhamdi, Guerraoui, Patra, Taziki (2018), Asynchronous Byzantine machine learning:
    stale gradients.

    Examples
    --------
    >>> stale([[[1.0], [3.0]], [[5.0], [7.0]]], 1)[:, 0, 0]
    array([6., 2.])
    """
    rows, count = read_honest(honest, n_byzantine)
    need_count("lag", lag)
    said = rows.mean(axis=-2)
    return copies(said if rows.ndim == 2 else np.roll(said, int(lag), axis=-2), count, rows)


def bit_flip(
    honest: Any,
    n_byzantine: int,
    *,
    rng: np.random.Generator | None = None,
    bits: Sequence[int] = (1,),
    target: int = 0,
) -> Lies:
    """Repeat one honest specialist with some bits of every number flipped.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said; float16, float32 or float64 words.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    bits : sequence of int, default (1,)
        Which bits, counted from the most significant: 0 is the sign, 1 the highest of the exponent.
    target : int, default 0
        Which honest specialist.

    Returns
    -------
    ndarray of shape (..., n_byzantine, output)
        The lies, float64 or the floating dtype of `honest`.

    Raises
    ------
    PanelError
        If the honest panel or a parameter cannot be read, or the words are no IEEE ones of 2, 4 or 8 bytes.

    Notes
    -----
    The highest exponent bit turns numbers of ordinary size into tiny, huge, infinite or NaN ones.

    References
    ----------
    IEEE 754-2019, section 3.4.

    Examples
    --------
    >>> bit_flip([[1.5, 3.0]], 1, bits=[0])
    array([[-1.5, -3. ]])
    """
    rows, count = read_honest(honest, n_byzantine)
    width = rows.dtype.itemsize
    if width not in _WORDS or np.finfo(rows.dtype).bits != 8 * width:
        raise PanelError(f"bit_flip needs float16, float32 or float64; got {rows.dtype}. Use .astype(float).")
    whole = isinstance(target, int | np.integer) and not isinstance(target, bool)
    if not whole or not -rows.shape[-2] <= target < rows.shape[-2]:
        raise PanelError(
            f"target={target!r} is none of the {rows.shape[-2]} honest specialists. Count from 0."
        )
    places = [bits] if isinstance(bits, int) else list(bits)
    if not places or any(
        isinstance(b, bool) or not isinstance(b, int | np.integer) or not 0 <= b < 8 * width for b in places
    ):
        raise PanelError(f"bits must be places 0..{8 * width - 1} from the sign on; got {bits!r}.")
    mask = 0
    for place in places:
        mask ^= 1 << (8 * width - 1 - int(place))
    native = np.ascontiguousarray(rows[..., target, :], dtype=rows.dtype.newbyteorder("="))
    word = native.view(_WORDS[width]) ^ _WORDS[width](mask)
    return copies(word.view(native.dtype), count, rows)


def pivot(
    honest: Any,
    n_byzantine: int,
    *,
    rng: np.random.Generator | None = None,
    value: float = 1e30,
    z: float = 1.5,
) -> Lies:
    """Put one absurd row first, for programs that measure everything from row 0, and hide the others.

    Parameters
    ----------
    honest : array-like of shape (..., honest specialist, output)
        What the honest specialists said.
    n_byzantine : int
        How many specialists lie (papers write f).
    rng : numpy.random.Generator, optional
        Accepted so that all attacks can be called alike; not used.
    value : float, default 1e30
        What the first liar says in every output; may be infinite or NaN.
    z : float, default 1.5
        The other liars say mean + z sd.

    Returns
    -------
    ndarray of shape (..., n_byzantine, output)
        The lies, float64 or the floating dtype of `honest`. Stack them in front:
        ``numpy.concatenate([lies, honest], axis=-2)``.

    Raises
    ------
    PanelError
        If the honest panel or a parameter cannot be read.

    Notes
    -----
    Differences from a row at 1e30 lose all digits of ordinary answers: a Gram matrix about row 0 then
    takes the hidden liars for honest rows. NaN in the honest rows stays in the hidden lies.

    References
    ----------
    Higham (2002), Accuracy and stability of numerical algorithms, section 1.7: cancellation.

    Examples
    --------
    >>> pivot([[1.0], [3.0]], 2, value=1e9, z=1.0)[:, 0].tolist()
    [1000000000.0, 3.0]
    """
    rows, count = read_honest(honest, n_byzantine)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise PanelError(f"value must be a number; got {value!r}. Use 1e30.")
    need_number("z", z)
    lies = copies(rows.mean(axis=-2) + z * rows.std(axis=-2), count, rows)
    with np.errstate(over="ignore"):
        lies[..., :1, :] = value
    return lies
