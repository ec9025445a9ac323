"""Bounded revision: who listens to whom, how far, and what may follow from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion.deliberative._reading import (
    Bools,
    Floats,
    read_influence,
    read_prior,
    read_shares,
    read_valid,
    same_kind,
)
from theory._exceptions import PanelError
from theory.panel import as_panel

_ROBUST = ("median", "trimmed_mean")
_STEPS = 30


def friedkin_johnsen(
    panel: Any,
    *,
    weights: Any = None,
    susceptibility: Any,
    robust: str | None = None,
    rounds: int | None = None,
) -> Any:
    """Let specialists move toward their peers and hold on to what they said first, until nothing moves.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Log-odds; see `log_odds`.
    weights : array-like of shape (specialist, specialist_) or (..., specialist, specialist_), optional
        Row i: how far i listens to each peer; rows sum to 1, diagonal 0. The complete graph by default.
    susceptibility : float or array-like of shape (specialist,) or (..., specialist)
        s in [0, 1): the share of its opinion that a specialist takes from its peers.
    robust : {"median", "trimmed_mean"}, optional
        What takes the place of the row average: the median of all peers, or their mean without the largest
        and the smallest quarter of each output. It knows no weights.
    rounds : int, optional
        Rounds of talk; the fixed point by default.

    Returns
    -------
    array of float64, shape (..., specialist, output)
        L* = V L(0) with V = (I - SW)^-1 (I - S), or L(rounds).

    Raises
    ------
    PanelError
        If a susceptibility reaches 1, weights are not row-stochastic, or an opinion is not finite.

    Notes
    -----
    Nothing is learned here: L* lies in the hull of the first opinions, and with one common susceptibility and
    doubly stochastic weights the mean of the log-odds, hence the log pool, stays exactly what it was. NaN is
    refused: let abstentions be rows of zeros. On the complete graph the fixed point costs one pass.

    References
    ----------
    Friedkin and Johnsen (1990), Social influence and opinions, equation 5.

    Examples
    --------
    >>> friedkin_johnsen([[1.0, -1.0], [0.0, 0.0]], susceptibility=0.5).round(3)
    array([[ 0.667, -0.667],
           [ 0.333, -0.333]])
    """
    values, wrap = as_panel(panel)
    m = values.shape[-2]
    batch = values.shape[:-2]
    if not np.isfinite(values).all():
        raise PanelError("opinions must be finite. Make them with log_odds(..., missing='abstain').")
    s = read_shares("susceptibility", susceptibility, (*batch, m), below_one=True)
    if rounds is not None and (
        isinstance(rounds, bool) or not isinstance(rounds, int) or not 0 <= rounds <= 1000
    ):
        raise PanelError(
            f"rounds is a whole number from 0 to 1000; got {rounds!r}. Leave it out for the end."
        )
    start = values.astype(np.float64, copy=False)
    if m == 1:
        return same_kind(wrap, start.copy())
    if robust is not None:
        if robust not in _ROBUST:
            raise PanelError(f"robust must be one of {_ROBUST} or None; got {robust!r}.")
        if weights is not None:
            raise PanelError(f"robust={robust!r} counts all peers alike: leave weights out.")
        return same_kind(wrap, _iterate(start, s[..., None], lambda x: _robust_peers(x, robust), rounds))
    if weights is None and rounds is None:
        return same_kind(wrap, _complete(start, s))
    w = complete_graph(m) if weights is None else read_influence(weights, batch, m, silent=s == 0.0)
    if rounds is not None:
        return same_kind(wrap, _iterate(start, s[..., None], lambda x: w @ x, rounds))
    one = np.asarray(susceptibility).ndim <= 1 and w.ndim == 2
    if one:
        return same_kind(wrap, total_influence(w, np.broadcast_to(np.asarray(susceptibility), (m,))) @ start)
    return same_kind(wrap, _solve(s, w, (1.0 - s)[..., None] * start))


def total_influence(weights: Any, susceptibility: Any) -> Floats:
    """Say how much of each final opinion comes from each first opinion.

    Parameters
    ----------
    weights : array-like of shape (..., specialist, specialist_)
        Row-stochastic, diagonal 0; rows of zeros where the susceptibility is 0.
    susceptibility : array-like of shape (specialist,) or (..., specialist)
        s in [0, 1).

    Returns
    -------
    ndarray of float64, shape (..., specialist, specialist_)
        V = (I - SW)^-1 (I - S): non-negative, rows sum to 1, V_ii >= 1 - s_i.

    Raises
    ------
    PanelError
        As in `friedkin_johnsen`.

    Notes
    -----
    NaN is refused.

    References
    ----------
    Friedkin and Johnsen (1990), Social influence and opinions, equation 6.

    Examples
    --------
    >>> total_influence([[0, 1], [1, 0]], [0.5, 0.0]).round(2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim < 2 or w.shape[-1] != w.shape[-2]:
        raise PanelError(f"weights must have shape (specialist, specialist_); got {w.shape}.")
    m = w.shape[-1]
    s = read_shares(
        "susceptibility",
        susceptibility,
        np.broadcast_shapes((*w.shape[:-2], m), np.shape(susceptibility)),
        below_one=True,
    )
    w = read_influence(w, w.shape[:-2], m, silent=s == 0.0)
    return _solve(s, w, (1.0 - s)[..., None] * np.eye(m))


def evidence_pool(panel: Any, *, weights: Any = None, susceptibility: Any, kappa: float) -> Any:
    """Add what peers know to one's own evidence, once, discounted for what they share.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Log-odds of sealed proposals.
    weights : array-like of shape (specialist, specialist_) or (..., specialist, specialist_), optional
        As in `friedkin_johnsen`; the pseudo-inverse of the error correlation times skill undoes clones.
    susceptibility : float or array-like of shape (specialist,) or (..., specialist)
        s in [0, 1]: 1 - s is the weight of one's own evidence.
    kappa : float
        Share of the peers' evidence that is new, N_eff / m, in (0, 1].

    Returns
    -------
    array of float64, shape (..., specialist, output)
        (1 - s_i) l_i + s_i kappa m sum_j w_ij l_j.

    Raises
    ------
    PanelError
        If kappa or a susceptibility is out of range, weights are not row-stochastic, or NaN came.

    Notes
    -----
    Never feed the result back: its gain reaches s N_eff, so a second round counts evidence twice and diverges.

    References
    ----------
    Genest and Zidek (1986), Combining probability distributions, section 3.

    Examples
    --------
    >>> evidence_pool([[1.0, -1.0], [0.5, -0.5]], susceptibility=0.5, kappa=1.0)
    array([[ 1.  , -1.  ],
           [ 1.25, -1.25]])
    """
    values, wrap = as_panel(panel)
    m, batch = values.shape[-2], values.shape[:-2]
    if not np.isfinite(values).all():
        raise PanelError("opinions must be finite. Make them with log_odds(..., missing='abstain').")
    if not 0.0 < kappa <= 1.0:
        raise PanelError(f"kappa is the share N_eff / m, in (0, 1]; got {kappa!r}.")
    s = read_shares("susceptibility", susceptibility, (*batch, m), below_one=False)[..., None]
    start = values.astype(np.float64, copy=False)
    if m == 1:
        return same_kind(wrap, start.copy())
    if weights is None:
        peers = (start.sum(axis=-2, keepdims=True) - start) / (m - 1)
    else:
        peers = read_influence(weights, batch, m) @ start
    return same_kind(wrap, (1.0 - s) * start + s * (kappa * m) * peers)


def cap_revision(
    before: Any,
    after: Any,
    *,
    tv_cap: float | None = None,
    support: Any = None,
    flip_margin: float | None = None,
    prior: Any = None,
    valid: Any = None,
) -> Any:
    """Shorten revisions that move too far, or that change a mind without support.

    Parameters
    ----------
    before, after : array-like, shape (..., specialist, output)
        Log-odds, as sealed and as revised.
    tv_cap : float, optional
        Largest total variation between the two opinions, in [0, 1].
    support : array-like of shape (..., output) or (..., specialist, output), optional
        What speaks for each option, such as shares of verified critiques.
    flip_margin : float, optional
        A change of the first choice from a to k needs support(k) - support(a) of at least this.
    prior, valid : array-like, optional
        As in `log_odds`.

    Returns
    -------
    array of float64, shape (..., specialist, output)
        before + lam (after - before) with the largest lam found in [0, 1] for each specialist.

    Raises
    ------
    PanelError
        If shapes differ, a parameter is out of range, or a margin comes without support.

    Notes
    -----
    Along the path the opinions are P0^(1-lam) P*^lam, a family with monotone likelihood ratio, so the total
    variation from P0 rises with lam: where it crosses the cap is bracketed, to 1e-9. NaN is refused. A tie
    between first choices is broken by the first option.

    Examples
    --------
    >>> cap_revision([[1.0, -1.0]], [[-1.0, 1.0]], support=[0.5, 0.5], flip_margin=0.1).round(3)
    array([[ 0., -0.]])
    """
    old, wrap = as_panel(before)
    new, _ = as_panel(after)
    if old.shape != new.shape:
        raise PanelError(f"before and after must have one shape; got {old.shape} and {new.shape}.")
    if not (np.isfinite(old).all() and np.isfinite(new).all()):
        raise PanelError("opinions must be finite. Make them with log_odds(..., missing='abstain').")
    k = old.shape[-1]
    mask = read_valid(valid, old.shape[:-2], k)
    start = read_prior(prior, mask, k)
    first = old.astype(np.float64, copy=False)
    step = new - first
    base = first if start is None else first + start[..., None, :]
    if mask is not None:
        exists = np.broadcast_to(mask[..., None, :], old.shape)
        base, step = np.where(exists, base, -np.inf), np.where(exists, step, 0.0)
    base, moves = np.ascontiguousarray(base).reshape(-1, k), np.ascontiguousarray(step).reshape(-1, k)
    share = np.ones(len(base))
    if tv_cap is not None:
        if not 0.0 <= tv_cap <= 1.0:
            raise PanelError(f"tv_cap is a total variation in [0, 1]; got {tv_cap!r}.")
        share = _capped(base, moves, tv_cap)
    if flip_margin is not None:
        if support is None or not 0.0 <= flip_margin <= 1.0:
            raise PanelError(
                f"flip_margin lies in [0, 1] and needs support; got {flip_margin!r}, {type(support)}."
            )
        backing = np.asarray(support, dtype=np.float64)
        backing = backing[..., None, :] if backing.ndim == old.ndim - 1 else backing
        try:
            backing = np.broadcast_to(backing, old.shape).reshape(-1, k)
        except ValueError:
            raise PanelError(f"support must have shape {(*old.shape[:-2], k)} or {old.shape}.") from None
        share = _unflipped(base, moves, share, backing, flip_margin)
    step *= share.reshape(*old.shape[:-1], 1)
    step += first
    return same_kind(wrap, step)


def complete_graph(n: int) -> Floats:
    """Give uniform weights on all peers.

    Parameters
    ----------
    n : int
        Specialists, at least 2.

    Returns
    -------
    ndarray of float64, shape (specialist, specialist_)

    Examples
    --------
    >>> complete_graph(3)[0].tolist()
    [0.0, 0.5, 0.5]
    """
    w = np.full((n, n), 1.0 / (n - 1))
    np.fill_diagonal(w, 0.0)
    return w


def _complete(start: Floats, s: Floats) -> Floats:
    """Solve on the complete graph: W is rank one but for its diagonal (Sherman-Morrison)."""
    m = start.shape[-2]
    share = s / (m - 1)
    d = 1.0 / (1.0 + share)
    u = d * share
    moved = (d * (1.0 - s))[..., None] * start
    total = np.einsum("...ik->...k", moved) / (1.0 - u.sum(axis=-1))[..., None]
    return np.asarray(moved + u[..., None] * total[..., None, :])


def _solve(s: Floats, w: Floats, right: Floats) -> Floats:
    system = s[..., None] * -w
    np.einsum("...ii->...i", system)[...] += 1.0
    return np.asarray(np.linalg.solve(system, right))


def _iterate(start: Floats, s: Floats, peers: Any, rounds: int | None) -> Floats:
    fixed = (1.0 - s) * start
    opinion = start
    # Any average of peers is non-expansive, so every round shrinks the distance to the end by max s.
    top = float(s.max(initial=0.0))
    enough = int(np.ceil(np.log(1e-16) / np.log(top))) + 1 if top > 0.0 else 1
    for _ in range(enough if rounds is None else rounds):
        new = fixed + s * peers(opinion)
        if rounds is None and np.abs(new - opinion).max(initial=0.0) == 0.0:
            break
        opinion = new
    return np.asarray(opinion + 0.0)


def _robust_peers(opinion: Floats, how: str) -> Floats:
    m = opinion.shape[-2]
    out = np.empty_like(opinion)
    cut = (m - 1) // 4
    for i in range(m):
        others = np.sort(np.delete(opinion, i, axis=-2), axis=-2)
        if how == "median":
            out[..., i, :] = 0.5 * (others[..., (m - 2) // 2, :] + others[..., (m - 1) // 2, :])
        else:
            out[..., i, :] = others[..., cut : m - 1 - cut, :].mean(axis=-2)
    return out


def _variation(base: Floats, move: Floats, share: Floats, origin: Floats) -> Floats:
    raw = base + share[:, None] * move
    raw -= raw.max(axis=1, keepdims=True)
    np.exp(raw, out=raw)
    raw /= np.einsum("ik->i", raw)[:, None]
    raw -= origin
    np.abs(raw, out=raw)
    return np.asarray(0.5 * np.einsum("ik->i", raw))


def _capped(base: Floats, move: Floats, tv_cap: float) -> Floats:
    share = np.ones(len(base))
    origin = np.exp(base - base.max(axis=1, keepdims=True))
    origin /= np.einsum("ik->i", origin)[:, None]
    over = np.flatnonzero(_variation(base, move, share, origin) > tv_cap)
    if not len(over):
        return share
    base, move, origin = base[over], move[over], origin[over]
    low, high = np.zeros(len(over)), np.ones(len(over))
    below, above = np.full(len(over), -tv_cap), _variation(base, move, high, origin) - tv_cap
    left = np.arange(len(over))
    for _ in range(_STEPS):
        # False position, with the stale end halved (Illinois): a third of the evaluations of bisection.
        lo, hi = low[left], high[left]
        middle = np.clip((lo * above[left] - hi * below[left]) / (above[left] - below[left]), lo, hi)
        excess = _variation(base[left], move[left], middle, origin[left]) - tv_cap
        fits = excess <= 0.0
        stale_high, stale_low = fits & (lo > 0.0), ~fits & (hi < 1.0)
        low[left], high[left] = np.where(fits, middle, lo), np.where(fits, hi, middle)
        above[left] = np.where(fits, np.where(stale_high, 0.5, 1.0) * above[left], excess)
        below[left] = np.where(fits, excess, np.where(stale_low, 0.5, 1.0) * below[left])
        left = left[~(fits & (excess > -1e-9)) & (high[left] - low[left] > 1e-9)]
        if not len(left):
            break
    share[over] = low
    return share


def _unflipped(base: Floats, move: Floats, share: Floats, support: Floats, margin: float) -> Floats:
    rows = np.arange(len(base))
    first = base.argmax(axis=1)
    last = (base + share[:, None] * move).argmax(axis=1)
    flips: Bools = (last != first) & (support[rows, last] - support[rows, first] < margin)
    hit = np.flatnonzero(flips)
    if not len(hit):
        return share
    a = first[hit]
    gap = base[hit, a][:, None] - base[hit]
    gain = move[hit] - move[hit, a][:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = np.where(gain > 0.0, gap / gain, np.inf).min(axis=1)
    out = share.copy()
    out[hit] = np.minimum(share[hit], (1.0 - 1e-9) * crossing)
    # Rounding may leave a tie to a later option broken the wrong way: then nothing moves.
    still = (base[hit] + out[hit, None] * move[hit]).argmax(axis=1) != a
    out[hit[still]] = 0.0
    return out
