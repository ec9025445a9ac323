"""Errors that arrive in batches: moments and prices without keeping the samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, check_level, read_errors
from theory._exceptions import PanelError
from theory._moments import mean_correlations
from theory._shrinkage import shrink_matrix
from theory.correlation import ErrorMatrix
from theory.pricing._semivalues import check_rule, mean_game_law
from theory.pricing._terms import Terms, assemble, read_v0, read_v0_needed
from theory.pricing.result import Prices

Floats = NDArray[np.float64]
# Samples per block: a block of 50 specialists stays in the second-level cache.
_BLOCK = 2048


@dataclass(frozen=True)
class _State:
    """Weighted means and centred sums of products; two states of one shape can be joined.

    Attributes
    ----------
    n : int
        Samples seen.
    weight, weight2 : float
        Sums of the weights of samples and of their squares.
    mean : ndarray of shape (specialist, output)
    scatter : ndarray of shape (specialist, specialist) or None
        Centred, summed over outputs.
    own : ndarray of shape (specialist, 2)
        Means of e_i^2 and of e_i t, t the sum of the errors of all specialists.
    shared : ndarray of shape (3,)
        Means of sum_i e_i^2, of t^2 and of the loss of the empty panel.
    own_own, own_shared, shared_shared : ndarray
        Their centred sums of products: (specialist, 2, 2), (specialist, 2, 3), (3, 3).
    """

    n: int
    weight: float
    weight2: float
    mean: Floats
    scatter: Floats | None
    own: Floats
    shared: Floats
    own_own: Floats
    own_shared: Floats
    shared_shared: Floats


def _of_block(e: Floats, loss0: Floats, w: Floats, keep_matrix: bool) -> _State:
    total = float(w.sum())
    t = e.sum(axis=1)
    square = np.einsum("nio,nio->ni", e, e)
    cross = np.einsum("nio,no->ni", e, t)
    common = np.stack([square.sum(axis=1), np.einsum("no,no->n", t, t), loss0], axis=1)
    mean = np.einsum("n,nio->io", w, e) / total
    own = np.stack([w @ square, w @ cross], axis=1) / total
    shared = (w @ common) / total
    a, b, s = square - own[:, 0], cross - own[:, 1], common - shared
    plain = bool((w == 1.0).all())
    wa, wb, ws = (a, b, s) if plain else (a * w[:, None], b * w[:, None], s * w[:, None])
    own_own = np.empty((e.shape[1], 2, 2))
    own_own[:, 0, 0] = np.einsum("ni,ni->i", a, wa)
    own_own[:, 1, 1] = np.einsum("ni,ni->i", b, wb)
    own_own[:, 0, 1] = own_own[:, 1, 0] = np.einsum("ni,ni->i", a, wb)
    scatter = None
    if keep_matrix:
        flat = np.ascontiguousarray(np.moveaxis(e - mean, 1, 2)).reshape(-1, e.shape[1])
        scatter = flat.T @ (flat * np.repeat(w, e.shape[2])[:, None])
    return _State(
        len(e), total, float(w @ w), mean, scatter, own, shared,
        own_own, np.stack([wa.T @ s, wb.T @ s], axis=1), s.T @ ws,
    )  # fmt: skip


def _joined(a: _State, b: _State) -> _State:
    """Join two states: centred sums add, plus d d' W_a W_b / (W_a + W_b) for means that lie d apart."""
    total = a.weight + b.weight
    share, factor = b.weight / total, a.weight * b.weight / total
    d_mean, d_own, d_shared = b.mean - a.mean, b.own - a.own, b.shared - a.shared
    scatter = None
    if a.scatter is not None and b.scatter is not None:
        scatter = a.scatter + b.scatter + factor * (d_mean @ d_mean.T)
    return _State(
        n=a.n + b.n,
        weight=total,
        weight2=a.weight2 + b.weight2,
        mean=a.mean + share * d_mean,
        scatter=scatter,
        own=a.own + share * d_own,
        shared=a.shared + share * d_shared,
        own_own=a.own_own + b.own_own + factor * d_own[:, :, None] * d_own[:, None, :],
        own_shared=a.own_shared + b.own_shared + factor * d_own[:, :, None] * d_shared[None, None, :],
        shared_shared=a.shared_shared + b.shared_shared + factor * np.outer(d_shared, d_shared),
    )


def _faded(a: _State, by: float) -> _State:
    return _State(
        a.n, a.weight * by, a.weight2 * by**2, a.mean, None if a.scatter is None else a.scatter * by,
        a.own, a.shared, a.own_own * by, a.own_shared * by, a.shared_shared * by,
    )  # fmt: skip


@dataclass(eq=False)
class StreamingErrors:
    """Moments and prices of errors that arrive in batches, the samples themselves forgotten.

    Prices under the mean need only the means of e_i^2, e_i t and t^2, with t the sum of the errors of all
    specialists: memory O(M), standard errors included. With ``matrix=True`` the (specialist, specialist)
    matrix is kept too.

    Parameters
    ----------
    halflife : float, optional
        Samples after which the weight of a sample has halved; None weighs all alike.
    matrix : bool
        Whether to keep the matrix that `covariance` needs, O(M^2) memory.

    Notes
    -----
    With a halflife the weight of the newest sample is 1 and each older one has lambda = 2^(-1/halflife) of its
    successor's; the effective number of samples tends to (1 + lambda) / (1 - lambda). Batches
    are joined by the centred update of Chan et al., so large shared offsets do not cancel.

    References
    ----------
    Chan, Golub and LeVeque, *Algorithms for computing the sample variance*, 1983.

    Examples
    --------
    >>> import numpy as np
    >>> errors = np.random.default_rng(0).normal(size=(1000, 3))
    >>> stream = StreamingErrors()
    >>> for batch in np.array_split(errors, 7):
    ...     stream = stream.partial_fit(batch)
    >>> bool(np.allclose(stream.covariance().value, errors.T @ errors / 1000))
    True
    >>> from theory import price
    >>> bool(np.allclose(stream.price(v0=1.0).value, price(errors, v0=1.0).value))
    True
    """

    halflife: float | None = None
    matrix: bool = True
    _state: _State | None = field(default=None, init=False, repr=False)
    _names: tuple[str, ...] = field(default=(), init=False, repr=False)
    _with_v0: bool = field(default=False, init=False, repr=False)

    def partial_fit(self, errors: Any, *, v0: ArrayLike | None = None) -> StreamingErrors:
        """Take in a batch of errors, oldest sample first.

        Parameters
        ----------
        errors : array-like, DataFrame or DataArray
            Shape (sample, specialist) or (sample, specialist, output), answer minus truth, no NaN.
        v0 : array-like of shape (sample,), optional
            Loss of the empty panel on every sample (an incumbent's squared error); else `price` takes one
            number. Either every batch brings it or none.

        Returns
        -------
        StreamingErrors
            Itself.

        Raises
        ------
        PanelError
            If answers are missing or the batch does not fit those before.
        """
        lam = self._decay()
        table = read_errors(errors, missing="abstain", least=1)
        if table.answered is not None:
            raise PanelError(
                f"a stream takes complete samples; {int((~table.answered.all(axis=1)).sum())} of {table.n} here miss "
                "answers. Leave them out, or price(errors, missing='abstain')."
            )
        e, n = table.values, table.n
        if self._state is not None:
            if e.shape[1:] != self._state.mean.shape or table.names != self._names:
                raise PanelError(
                    f"this batch has specialists {list(table.names)} with {e.shape[2]} outputs, those before "
                    f"{list(self._names)} with {self._state.mean.shape[1]}. Start a new stream for another panel."
                )
            if (v0 is not None) != self._with_v0:
                raise PanelError("either every batch brings v0, or none does.")
        loss0 = np.zeros(n) if v0 is None else read_v0(v0, n)
        state = self._state
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(n, start + _BLOCK))
            size = rows.stop - start
            weight = lam ** np.arange(size - 1, -1, -1, dtype=np.float64)
            block = _of_block(e[rows], loss0[rows], weight, self.matrix)
            state = block if state is None else _joined(_faded(state, lam**size), block)
        self._state, self._names, self._with_v0 = state, table.names, v0 is not None
        return self

    def merge(self, other: StreamingErrors) -> StreamingErrors:
        """Join two streams over the same specialists into a new one; both stay as they are.

        Parameters
        ----------
        other : StreamingErrors
            Of the same halflife. With one, both streams are taken to end at the same moment.

        Returns
        -------
        StreamingErrors
            What one stream that had seen both would know.

        Raises
        ------
        PanelError
            If parameters or specialists differ.
        """
        if (self.halflife, self.matrix) != (other.halflife, other.matrix):
            raise PanelError(
                f"streams differ: halflife {self.halflife} and {other.halflife}, matrix {self.matrix} and "
                f"{other.matrix}. Give both the same."
            )
        result = StreamingErrors(halflife=self.halflife, matrix=self.matrix)
        known = [one for one in (self, other) if one._state is not None]
        if not known:
            return result
        first, last = known[0], known[-1]
        if first._names != last._names or first._with_v0 != last._with_v0:
            raise PanelError(
                f"streams of different panels: {list(first._names)} and {list(last._names)}, v0 by sample "
                f"{first._with_v0} and {last._with_v0}."
            )
        a, b = first._known(), last._known()
        if a.mean.shape != b.mean.shape:
            raise PanelError(f"streams have {a.mean.shape[1]} and {b.mean.shape[1]} outputs.")
        result._state = a if len(known) == 1 else _joined(a, b)
        result._names, result._with_v0 = first._names, first._with_v0
        return result

    @property
    def n_samples(self) -> int:
        """Samples seen."""
        return 0 if self._state is None else self._state.n

    @property
    def n_effective(self) -> float:
        """Effective number of samples, (sum w)^2 / sum w^2."""
        return 0.0 if self._state is None else self._state.weight**2 / self._state.weight2

    def covariance(
        self,
        *,
        kind: Literal["second_moment", "covariance"] = "second_moment",
        shrink: Literal["oas"] | float | None = None,
    ) -> ErrorMatrix:
        """Return the second moment or the covariance of the errors seen so far.

        Parameters
        ----------
        kind : {"second_moment", "covariance"}
            Which of the two matrices, as in `error_covariance`.
        shrink : {"oas"} or float, optional
            Shrinkage. The Ledoit-Wolf intensities need fourth moments of the samples, which are gone.

        Returns
        -------
        ErrorMatrix
            Without standard errors.

        Raises
        ------
        PanelError
            If nothing was seen, or the matrix was not kept.
        """
        check_choice("kind", kind, ("second_moment", "covariance"))
        state = self._known()
        if state.scatter is None:
            raise PanelError("the matrix was not kept: StreamingErrors(matrix=True) keeps it.")
        if isinstance(shrink, str) and shrink != "oas":
            raise PanelError(
                f"shrink={shrink!r} needs the samples, which a stream forgets. Use 'oas' or a number in [0, 1]."
            )
        matrix = state.scatter / state.weight
        if kind == "second_moment":
            matrix = matrix + state.mean @ state.mean.T
        matrix = (matrix + matrix.T) / 2.0
        value, amount = shrink_matrix(matrix, self.n_effective, shrink, fourth=None, third=None)
        pooled, mean, notes = mean_correlations(value)
        return ErrorMatrix(
            value=value,
            kind=kind,
            names=self._names,
            n=state.n,
            n_effective=self.n_effective,
            n_pair=None,
            mean=state.mean[:, 0].copy() if state.mean.shape[1] == 1 else state.mean.copy(),
            variance=matrix.diagonal().copy(),
            se=None,
            ci=None,
            shrinkage=amount,
            rho_pooled=pooled,
            rho_mean=mean,
            rho_pooled_se=None,
            rho_mean_se=None,
            rho_pooled_ci=None,
            rho_mean_ci=None,
            method="stream" if self.halflife is None else f"stream, halflife {self.halflife:g}",
            warnings=tuple(notes),
        )

    def price(
        self,
        *,
        v0: float | None = None,
        rule: Literal["shapley", "banzhaf", "leave_one_out", "solo", "beta"] = "shapley",
        beta: tuple[float, float] | None = None,
        quorum: int = 1,
        ci: float = 0.95,
        cross_fitted: bool = False,
    ) -> Prices:
        """Price every specialist under the mean, as `price` would on all samples at once.

        Parameters
        ----------
        v0 : float, optional
            Loss of the empty panel; left out where the batches brought it.
        rule : {"shapley", "banzhaf", "leave_one_out", "solo", "beta"}
            The semivalue.
        beta : tuple of two floats, optional
            Parameters of ``"beta"``.
        quorum : int
            Least size at which the panel speaks.
        ci : float
            Level of the intervals.
        cross_fitted : bool
            Whether errors are on samples that specialists were not fitted on; leaves out a warning.

        Returns
        -------
        Prices
            With standard errors, of the weighted mean under a halflife.

        Raises
        ------
        PanelError
            If nothing was seen, or v0 is missing or given twice.
        """
        state = self._known()
        if self._with_v0 and v0 is not None:
            raise PanelError("the batches brought v0 by sample: leave v0 out here.")
        loss0 = float(state.shared[2]) if self._with_v0 else read_v0_needed(v0)
        beta = check_rule(rule, beta)
        if not isinstance(quorum, int | np.integer) or quorum < 1:
            raise PanelError(f"quorum is a whole number >= 1; got {quorum!r}.")
        terms = Terms(rule, beta, int(quorum), check_level(ci), False, cross_fitted, None)
        terms.check_quorum(len(state.own))
        law = mean_game_law(len(state.own), rule, beta, int(quorum), None)
        # Price of a sample = -(own @ (e_i^2, e_i t) + shared @ (sum e^2, t^2, v0)), linear in what is kept.
        a, b, g, u = law.own, law.with_others, law.crowd_own, law.crowd_pairs
        own = np.array([a - g - 2.0 * b + 2.0 * u, 2.0 * (b - u)])
        shared = np.array([g - u, u, -law.reference])
        means = state.shared.copy()
        means[2] = loss0
        value = -(state.own @ own + shared @ means)
        spread = (
            np.einsum("ijk,j,k->i", state.own_own, own, own)
            + 2.0 * np.einsum("ijk,j,k->i", state.own_shared, own, shared)
            + shared @ state.shared_shared @ shared
        ) / state.weight
        size = self.n_effective
        se = np.sqrt(np.maximum(spread, 0.0) / (size - 1.0)) if size > 1.0 + 1e-9 else None
        return assemble(
            terms, self._names, "mean", value, loss0 - law.h_all * float(means[1]), loss0,
            n=state.n, order_se=se, exact=True, method="closed form, from a stream",
            exaggeration=law.exaggeration, warnings=terms.reminder(),
        )  # fmt: skip

    def _decay(self) -> float:
        if self.halflife is None:
            return 1.0
        if not (np.isfinite(self.halflife) and self.halflife > 0):
            raise PanelError(f"halflife is a number of samples > 0; got {self.halflife!r}.")
        return float(2.0 ** (-1.0 / self.halflife))

    def _known(self) -> _State:
        if self._state is None:
            raise PanelError("the stream has seen no sample: call partial_fit(errors) first.")
        return self._state
