"""Precision games: what a coalition reaches with the best weights it can have.

p(S) = shift_S' C_SS^-1 shift_S is what a coalition's answers add to the precision of the truth; variance,
information and Bhattacharyya bounds are functions of it. Adding specialist i to S adds U_i^2 / K_ii, with K the
Schur complement of C given S and U = shift - C_.S C_SS^-1 shift_S; both are updated in (M - i)^2 steps, and over
all coalitions in increasing order of their members that is about 6 * 2^M.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import ErrorTable, read_errors, read_groups, read_matrix
from theory._exceptions import PanelError
from theory.correlation import error_covariance
from theory.pricing._exchangeable import composition_prices, exchangeable_groups
from theory.pricing._order_games import binomials
from theory.pricing._semivalues import size_law
from theory.pricing._terms import Terms, assemble, read_v0_needed
from theory.pricing.result import Prices

Floats = NDArray[np.float64]
MOST_EXACT = 25
# Coalitions below which Python is done before a compiled core is loaded.
_COMPILE_ABOVE = 8
# Largest panel whose bootstrap enumerates again at every draw: 0.1 s for 100 draws at 14.
_MOST_REDRAWN = 14
_REDRAWN_ORDERS = 64
_SINGULAR = 1e-12
_CODES = {"precision": 0, "gls": 1, "info": 2, "bhattacharyya": 3}
_LEAST_ENUMERATED = 1 << 12


class Link(NamedTuple):
    """From the precision of a coalition to its loss."""

    game: str
    v0: float
    constant: float

    @staticmethod
    def read(game: str, v0: Any, prior_variance: Any) -> Link:
        """Read the loss of the empty panel and the prior variance."""
        if prior_variance is not None and not (
            np.ndim(prior_variance) == 0 and 0.0 < prior_variance < np.inf
        ):
            raise PanelError(f"prior_variance is a positive number; got {prior_variance!r}.")
        if game == "info" and prior_variance is None:
            raise PanelError(
                "game='info' needs prior_variance=, the variance of the truth before any answer."
            )
        if game == "gls":
            if prior_variance is None:
                return Link(game, read_v0_needed(v0), 0.0)
            if v0 is not None and v0 != prior_variance:
                raise PanelError(
                    f"with prior_variance={prior_variance!r} the empty panel loses just that: leave v0 out."
                )
            return Link(game, float(prior_variance), 1.0 / float(prior_variance))
        start = (
            {"precision": 0.0, "info": 0.0, "bhattacharyya": 0.5}[game] if v0 is None else read_v0_needed(v0)
        )
        if game == "bhattacharyya" and not 0.0 < start <= 0.5:
            raise PanelError(
                f"v0 of game='bhattacharyya' is the square root of the product of two priors, in (0, 1/2]; got "
                f"{start!r}."
            )
        return Link(game, start, float(prior_variance) if game == "info" else 0.0)

    def loss(self, p: Any) -> Any:
        """Return the loss at a precision, elementwise."""
        if self.game == "precision":
            return self.v0 - p
        if self.game == "gls":
            return 1.0 / (p + self.constant)
        if self.game == "info":
            return self.v0 - 0.5 * np.log1p(self.constant * p)
        return self.v0 * np.exp(-p / 8.0)


class _Game(NamedTuple):
    """A precision game, standardised to variance 1."""

    matrix: Floats
    shift: Floats
    link: Link
    rule: str
    beta: tuple[float, float] | None
    quorum: int

    def loss_at(self, p: Any, size: Any) -> Any:
        heard = np.asarray(size) >= self.quorum
        return np.where(heard, self.link.loss(np.where(heard, p, 1.0)), self.link.v0)


class _Answer(NamedTuple):
    value: Floats
    total: float
    order_se: Floats | None
    exact: bool
    method: str
    n_evaluations: int


def price_precision(
    source: Any,
    link: Link,
    shift: ArrayLike | None,
    shrink: Any,
    terms: Terms,
    *,
    from_matrix: bool,
    groups: ArrayLike | None,
    exact: bool | None,
    n_permutations: int,
    n_bootstrap: int,
    seed: int,
) -> Prices:
    """Prices under optimal weights, from a second moment or from errors."""
    table: ErrorTable | None = None
    notes: tuple[str, ...] = ()
    if from_matrix:
        matrix, found = read_matrix(source, what="second moment")
        if getattr(source, "kind", "") == "correlation":
            raise PanelError(
                "a correlation holds no loss to pay out. Price the errors, or error_covariance(errors)."
            )
    else:
        table = read_errors(source, missing="raise")
        matrix, found = _second_moment(table.values, shrink), table.names
        notes = (
            *terms.reminder(),
            "weights that are optimal on these samples look better than they will be: price on samples the "
            "weights were not chosen on, or shrink",
        )
    m = len(matrix)
    terms.check_quorum(m)
    moved = _read_shift(shift, m)
    if link.game == "gls" and link.constant == 0.0 and (moved == 0.0).any():
        raise PanelError(
            "a specialist with shift 0 says nothing, and alone has no finite variance. Give prior_variance=, or "
            "leave it out."
        )
    game = _standardised(matrix, moved, link, terms, table)
    answer = _solve(game, exact, n_permutations, seed)
    se = answer.order_se
    if table is not None and terms.errors_wanted:
        drawn, lost = _bootstrap(table.values, shrink, moved, link, terms, groups, n_bootstrap, seed)
        se = drawn if se is None or drawn is None else np.sqrt(drawn**2 + se**2)
        if lost:
            notes += (f"{lost} of {n_bootstrap} bootstrap draws gave a singular matrix and were left out",)
    return assemble(
        terms, terms.named(found), link.game, answer.value, answer.total, link.v0,
        n=None if table is None else table.n, order_se=se, exact=answer.exact, method=answer.method,
        n_evaluations=answer.n_evaluations,
        seed=seed if table is not None or not answer.exact else None, warnings=notes,
    )  # fmt: skip


def _second_moment(values: Floats, shrink: Any) -> Floats:
    return error_covariance(values, shrink=shrink).value


def _read_shift(shift: ArrayLike | None, m: int) -> Floats:
    if shift is None:
        return np.ones(m)
    values = np.asarray(shift, dtype=np.float64)
    if values.shape != (m,) or not np.isfinite(values).all():
        raise PanelError(f"shift must be one finite number per specialist ({m}); got shape {values.shape}.")
    return values


def _standardised(matrix: Floats, shift: Floats, link: Link, terms: Terms, table: ErrorTable | None) -> _Game:
    scale = np.sqrt(matrix.diagonal())
    least = 0.0
    if (scale > 0.0).all():
        unit = matrix / scale[:, None] / scale[None, :]
        try:
            # The smallest pivot of any order is what the other specialists leave of one of them.
            lower = np.linalg.inv(np.linalg.cholesky(unit))
            least = float(1.0 / np.einsum("ki,ki->i", lower, lower).max())
        except np.linalg.LinAlgError:
            least = 0.0
    if least <= _SINGULAR:
        if table is not None and table.n * table.values.shape[2] <= len(matrix):
            raise PanelError(
                f"second moment singular: n={table.n}, M={len(matrix)}; use shrink='constant_correlation'."
            )
        raise PanelError(
            "second moment singular: the others determine one specialist's error. Join copies "
            "(find_clones(errors)), or use shrink='constant_correlation' on errors."
        )
    return _Game(unit, shift / scale, link, terms.rule, terms.beta, terms.quorum)


def _solve(game: _Game, exact: bool | None, n_permutations: int, seed: int) -> _Answer:
    m = len(game.matrix)
    groups = exchangeable_groups(game.matrix, game.shift)
    compositions = 1.0
    for size in np.bincount(groups):
        compositions *= size + 1.0
    if exact is not False and compositions <= min(200_000.0, 2.0**m / 8.0):
        value, total = composition_prices(
            game.matrix, game.shift, groups, game.loss_at, size_law(m, game.rule, game.beta)
        )
        return _Answer(value, total, None, True, "enumeration of exchangeable groups", int(compositions))
    if exact and m > MOST_EXACT:
        raise PanelError(
            f"exact=True with {m} specialists takes about 6*2^{m} steps, at most 2^{MOST_EXACT} are taken; "
            "exact=False estimates with SE."
        )
    if exact is not False and m <= MOST_EXACT:
        value, total = _enumerate(game)
        return _Answer(value, total, None, True, "enumeration by Schur complements", 2**m)
    return _permute(game, n_permutations, seed)


def _enumerate(game: _Game) -> tuple[Floats, float]:
    m = len(game.matrix)
    share = np.append(size_law(m, game.rule, game.beta) / binomials(m - 1)[m - 1], 0.0)
    with_member = np.concatenate([[0.0], share[:-1] + share[1:]])
    out = np.zeros(m)
    arguments = (
        game.matrix, game.shift, with_member, share, _CODES[game.link.game], game.link.constant, game.link.v0,
        game.quorum, out,
    )  # fmt: skip
    if m > _COMPILE_ABOVE:
        from theory._kernels import schur_prices

        schur_prices(*arguments)
    else:
        schur_prices_numpy(*arguments)
    full = float(game.shift @ np.linalg.solve(game.matrix, game.shift))
    return -out, game.link.v0 - float(game.loss_at(full, m))


def schur_prices_numpy(
    matrix: Floats,
    shift: Floats,
    with_member: Floats,
    any_set: Floats,
    code: int,
    constant: float,
    v0: float,
    quorum: int,
    out: Floats,
) -> None:
    """NumPy twin of the compiled core, as a recursion."""
    m = len(matrix)
    link = Link(next(name for name, number in _CODES.items() if number == code), v0, constant)
    out[:] = 0.0

    def visit(k: Floats, u: Floats, p: float, first: int, size: int) -> tuple[float, float]:
        """Sum over all sets that extend this one by members from `first` on."""
        loss = v0 if size < quorum else float(link.loss(p)) if size else v0
        held, every = with_member[size] * loss, any_set[size] * loss
        for i in range(first, m):
            row, pivot = k[i], k[i, i]
            child = visit(
                k - np.outer(row, row) / pivot, u - row * u[i] / pivot, p + u[i] ** 2 / pivot, i + 1, size + 1
            )
            out[i] += child[0]
            held += child[0]
            every += child[1]
        return held, every

    _, everything = visit(matrix, shift, 0.0, 0, 0)
    out -= everything


@lru_cache(maxsize=8)
def _orders(m: int, n_permutations: int, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    pairs = (n_permutations + 1) // 2
    forward = np.stack([rng.permutation(m) for _ in range(pairs)])
    return np.stack([forward, forward[:, ::-1]], axis=1).reshape(2 * pairs, m)


def _permute(game: _Game, n_permutations: int, seed: int) -> _Answer:
    """Random orders and their reverses; joining at most one other, or all but at most one, is exact.

    Small coalitions hold most of the variance. One Cholesky factorisation of the reordered matrix, with the
    shift as its last row, holds the roots of all gains in precision along an order in its last row.
    """
    if n_permutations < 4:
        raise PanelError(f"n_permutations must be at least 4 for a standard error; got {n_permutations}.")
    m = len(game.matrix)
    law = size_law(m, game.rule, game.beta)
    inverse = np.asarray(np.linalg.inv(game.matrix), dtype=np.float64)
    answer = inverse @ game.shift
    full = float(game.shift @ answer)
    nobody, everyone = game.link.v0, float(game.loss_at(full, m))
    alone = game.loss_at(game.shift**2, 1)
    without = game.loss_at(full - answer**2 / inverse.diagonal(), m - 1)
    value = law[0] * (nobody - alone) + law[-1] * (without - everyone)
    ends = 1
    if m >= 4:
        ends = 2
        two = game.loss_at(_of_pairs(game.matrix, game.shift), 2)
        left = game.loss_at(full - _of_pairs(inverse, np.asarray(answer)), m - 2)
        others = ~np.eye(m, dtype=bool)
        # Row i: i joins j; and i joins everybody but j.
        value = value + law[1] / (m - 1) * np.where(others, alone[None, :] - two, 0.0).sum(axis=1)
        value = value + law[-2] / (m - 1) * np.where(others, left - without[None, :], 0.0).sum(axis=1)
    inner = float(law[ends : m - ends].sum())
    orders = _orders(m, n_permutations, seed)
    pairs = len(orders) // 2
    gains, visits = np.zeros((len(orders), m)), np.zeros((len(orders), m))
    if inner > 0:
        bordered = np.empty((m + 1, m + 1))
        bordered[:m, :m], bordered[m, :m], bordered[:m, m] = game.matrix, game.shift, game.shift
        bordered[m, m] = full + 1.0
        weight = law[ends : m - ends] * (m - 2 * ends) / inner
        step = max(1, 2_000_000 // (m + 1) ** 2)
        for start in range(0, len(orders), step):
            block = orders[start : start + step]
            index = np.column_stack([block, np.full(len(block), m)])
            roots = np.linalg.cholesky(bordered[index[:, :, None], index[:, None, :]])[:, m, :m]
            losses = game.loss_at(np.cumsum(roots**2, axis=1), np.arange(1, m + 1))
            rows = np.arange(start, start + len(block))[:, None]
            inside = block[:, ends : m - ends]
            gains[rows, inside] = (losses[:, ends - 1 : m - ends - 1] - losses[:, ends : m - ends]) * weight
            visits[rows, inside] = 1.0
    means = gains.reshape(pairs, 2, m).sum(axis=1)
    counts = np.maximum(visits.sum(axis=0), 1.0)
    middle = gains.sum(axis=0) / counts
    value = value + inner * middle
    # Influence of a pair of orders on a ratio of sums.
    psi = inner * (means - middle * visits.reshape(pairs, 2, m).sum(axis=1)) * pairs / counts
    total = nobody - everyone
    if np.ptp(law) == 0.0:
        value = value + (total - value.sum()) / m
        psi = psi - psi.mean(axis=1, keepdims=True)
    se = np.sqrt((psi**2).sum(axis=0) / (pairs * (pairs - 1.0)))
    return _Answer(value, total, se, False, f"permutations ({len(orders)}, antithetic)", len(orders) * m)


def _of_pairs(matrix: Floats, shift: Floats) -> Floats:
    """Return shift' C^-1 shift of every pair; 1 on the diagonal, which nobody reads."""
    own = matrix.diagonal()
    top = np.outer(shift**2, own) + np.outer(own, shift**2) - 2.0 * np.outer(shift, shift) * matrix
    bottom = np.outer(own, own) - matrix**2
    np.fill_diagonal(top, 1.0)
    np.fill_diagonal(bottom, 1.0)
    return np.asarray(top / bottom)


def _bootstrap(
    values: Floats,
    shrink: Any,
    shift: Floats,
    link: Link,
    terms: Terms,
    groups: ArrayLike | None,
    n_bootstrap: int,
    seed: int,
) -> tuple[Floats | None, int]:
    """Return the deviation of prices over resampled samples (or groups), and how many draws were singular."""
    if not isinstance(n_bootstrap, int | np.integer) or n_bootstrap < 10:
        raise PanelError(f"n_bootstrap must be a whole number of at least 10; got {n_bootstrap!r}.")
    rng = np.random.default_rng([seed, 1])
    n, m = values.shape[:2]
    codes = read_groups(groups, n)
    members = (
        None
        if codes is None
        else np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    )
    drawn = []
    for _ in range(n_bootstrap):
        if members is None:
            rows = np.asarray(rng.integers(0, n, n))
        else:
            rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        try:
            game = _standardised(_second_moment(values[rows], shrink), shift, link, terms, None)
        except PanelError:
            continue
        few = m <= _MOST_REDRAWN
        drawn.append(_enumerate(game)[0] if few else _permute(game, _REDRAWN_ORDERS, seed).value)
    if len(drawn) < 10:
        return None, n_bootstrap - len(drawn)
    return np.asarray(np.std(drawn, axis=0, ddof=1)), n_bootstrap - len(drawn)
