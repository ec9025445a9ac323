"""The truth behind the labels of many specialists, without truths to learn from, or with a few."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from estimators.excess import (
    agreement_skills,
    chance_corrected,
    discount_exponents,
    excess_of_agreement,
    excess_of_residuals,
)
from estimators.label_table import LabelTable, read_gold, read_labels
from estimators.training import read_answers
from estimators.truth_em import Estimate, Start, count_answers, expect, maximise
from theory import PanelError

_MODELS = ("dawid_skene", "one_coin", "majority")
_GOLD_TO_LEARN = 50  # known truths from which error rates and correlations can be told


class TruthInference(BaseEstimator):
    """Infer the truth, and how each specialist errs, from what many specialists said.

    Parameters
    ----------
    model : {"dawid_skene", "one_coin", "majority"}
        ``"dawid_skene"``: each specialist has a table of error rates, P(said | true). ``"one_coin"``:
        each has one accuracy. ``"majority"``: shares of the votes.
    correlation : {"independent", "discount"}
        ``"independent"``: specialists err independently given the truth. ``"discount"``: those who
        agree more than their skills explain count less; exact copies count as one.
    smoothing : float
        Added to each count of an error rate.
    n_iter : int
        Most E steps.
    tol : float
        The algorithm stops when a step raises the objective by less than this per answer.
    refine : int
        How often the discount is estimated again from the fitted errors, and the algorithm run anew.

    Attributes
    ----------
    classes_, samples_, specialists_ : ndarray
        Labels, and names of samples and specialists (positions, unless the labels carry names).
    proba_ : ndarray of shape (sample, class)
        Probabilities of the truth.
    labels_ : ndarray of shape (sample,)
        Most probable label; ties go to the first of ``classes_``.
    error_rates_ : ndarray of shape (specialist, class, class)
        P(said | true) at [specialist, true, said].
    prior_ : ndarray of shape (class,)
        Of the truth.
    weights_ : ndarray of shape (specialist,)
        Exponents of the likelihoods in [0, 1]; 1 for independent ones.
    excess_correlation_ : ndarray of shape (specialist, specialist)
        Correlation beyond what skills explain; the identity for ``"independent"``.
    log_likelihood_ : float
        Of the labels (with the exponents, and the smoothing as a prior); NaN for ``"majority"``.
    objective_ : ndarray
        The same after each E step; it does not fall.
    n_iter_ : int
        E steps made.
    converged_ : bool
        Whether the last step gained less than ``tol`` per answer.

    Notes
    -----
    With theta the error rates and q the probabilities of the truth, an M step sets theta_k[j, c]
    proportional to sum_t q_tj [l_tk = c] + smoothing, an E step q_tj proportional to
    prior_j prod_k theta_k[j, l_tk]^a_k. It begins at the shares of the votes. ``smoothing=0`` (counts
    floored at 1e-10) gives the numbers of crowd-kit.

    The discount: chance-corrected agreement kappa_kl is s_k s_l for independents of skills s, so that
    skills come as medians over partners, and what exceeds s_k s_l by three standard errors is a
    correlation R. The exponents a minimise a'Ra/2 - 1'a over [0, 1]. They are never updated inside the
    algorithm, which would then collapse. Without known truths a correlated majority, or questions that are
    hard for everybody, cannot be told from skill: give ``gold`` for them.

    With 50 known truths or more, error rates and correlations are first learned from these.

    References
    ----------
    .. [1] Dawid & Skene, Maximum likelihood estimation of observer error-rates using the EM algorithm,
       1979, equations 2.3-2.5.
    .. [2] Cohen, A coefficient of agreement for nominal scales, 1960.

    Examples
    --------
    >>> labels = [["a", "a", "b"], ["b", "b", "a"], ["a", "a", "a"], ["b", "b", None], ["b", "a", "a"]]
    >>> TruthInference("majority").fit(labels).labels_.tolist()
    ['a', 'b', 'a', 'b', 'a']
    >>> TruthInference().fit(labels).error_rates_.shape
    (3, 2, 2)
    """

    def __init__(
        self,
        model: str = "dawid_skene",
        *,
        correlation: str = "independent",
        smoothing: float = 0.01,
        n_iter: int = 100,
        tol: float = 1e-6,
        refine: int = 0,
    ):
        self.model = model
        self.correlation = correlation
        self.smoothing = smoothing
        self.n_iter = n_iter
        self.tol = tol
        self.refine = refine

    def fit(
        self,
        labels: Any,
        gold: Any = None,
        *,
        task: str = "classification",
        n_options: Any = None,
        sample_weight: Any = None,
    ) -> TruthInference:
        """Infer truths and error rates.

        Parameters
        ----------
        labels : array-like, DataFrame or DataArray
            A matrix (sample, specialist) of integer codes with -1 or NaN where there is no answer, or of
            words with None, NaN or ""; a long frame with the columns sample, specialist and label; or a
            panel (sample, specialist, output), of which the first choices are taken.
        gold : array-like of shape (sample,), dict or Series by sample name, optional
            Known truths; -1 (of codes), None, NaN or "" elsewhere. As a fusion, all truths.
        task : {"classification"}
            There so that this is a learned fusion.
        n_options : array-like of int, shape (sample,), optional
            Options of each sample, 0 .. n - 1, where codes carry no meaning across samples. Not for
            ``"dawid_skene"``, whose error rates need that meaning.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : TruthInference

        Raises
        ------
        PanelError
            On unknown parameters, or labels, truths, options or weights that do not fit.
        """
        self._check(task)
        table, fixed = read_gold(gold, read_labels(labels))
        mass = _read_mass(sample_weight, table.n_samples)
        options = None
        if n_options is not None:
            table, options = _read_options(n_options, table, fixed, self.model)
        start = Start(fixed, mass, np.ones(table.n_specialists), options)
        self.excess_correlation_ = np.eye(table.n_specialists)
        shares = _shares(table, start, np.ones(table.n_specialists))
        if self.model == "majority":
            counts = count_answers(table, shares, mass).transpose(0, 2, 1) + max(self.smoothing, 1e-10)
            rates = counts / counts.sum(axis=2, keepdims=True)
            found = Estimate(shares, rates, mass @ shares / mass.sum(), np.array([]), True)
        else:
            found = self._infer(table, start, shares)
        self.proba_, self.error_rates_, self.prior_ = found.q, found.rates, found.prior
        self.objective_, self.n_iter_, self.converged_ = found.path, len(found.path), found.converged
        self.log_likelihood_ = float(found.path[-1]) if len(found.path) else float("nan")
        self.weights_ = start.exponents
        self.classes_, self.samples_, self.specialists_ = table.classes, table.samples, table.specialists
        self.labels_ = table.classes[found.q.argmax(axis=1)]
        return self

    def _infer(self, table: LabelTable, start: Start, shares: NDArray[np.float64]) -> Estimate:
        coin = self.model == "one_coin"
        terms = {"coin": coin, "smoothing": self.smoothing, "n_iter": self.n_iter, "tol": self.tol}
        known = (start.fixed >= 0) & (start.mass > 0)
        learnt = int(known.sum()) >= _GOLD_TO_LEARN
        q = shares
        if learnt:
            told = Start(start.fixed, np.where(known, start.mass, 0.0), start.exponents, start.options)
            first = maximise(table, shares, told, **{**terms, "smoothing": 1.0, "n_iter": 1})
        if self.correlation == "discount":
            if learnt:
                codes, sure = table.codes[known], first.q[known]
                found = excess_of_residuals(codes, sure, first.rates, start.mass[known], 2.0)
            else:
                kappa, common = chance_corrected(table.codes, table.n_classes, start.mass)
                skill = agreement_skills(kappa, common)
                found = excess_of_agreement(kappa, common, skill)
            start.exponents = discount_exponents(found)
            self.excess_correlation_ = found
            if not learnt:
                q = _shares(table, start, start.exponents * skill)
        if learnt:
            q = expect(table, first.rates, first.prior, start, coin=coin)
        estimate = maximise(table, q, start, **terms)
        for _ in range(self.refine if self.correlation == "discount" and not learnt else 0):
            found = excess_of_residuals(table.codes, estimate.q, estimate.rates, start.mass, 3.0)
            start.exponents = discount_exponents(found)
            self.excess_correlation_ = found
            votes = np.trace(estimate.rates, axis1=1, axis2=2) / table.n_classes
            estimate = maximise(table, _shares(table, start, start.exponents * votes), start, **terms)
        return estimate

    def predict_proba(self, labels: Any) -> NDArray[np.float64]:
        """Give the probabilities of the truth of new samples: one E step.

        Parameters
        ----------
        labels : array-like, DataFrame or DataArray
            As in ``fit``, of the same specialists; in a long frame, samples come in order of appearance.

        Returns
        -------
        ndarray of shape (sample, class)
            The prior where nobody answered.

        Raises
        ------
        PanelError
            If labels or specialists were not there in ``fit``.
        """
        check_is_fitted(self)
        table = read_labels(labels).recoded(self.classes_, self.specialists_)
        start = Start(np.full(table.n_samples, -1, dtype=np.int64), np.ones(table.n_samples), self.weights_)
        if self.model != "majority":
            return expect(table, self.error_rates_, self.prior_, start, coin=self.model == "one_coin")
        shares = _shares(table, start, np.ones(table.n_specialists))
        shares[np.diff(table.start) == 0] = self.prior_
        return shares

    def predict(self, labels: Any) -> NDArray[Any]:
        """Give the most probable label of new samples.

        Parameters
        ----------
        labels : array-like, DataFrame or DataArray
            As in ``predict_proba``.

        Returns
        -------
        ndarray of shape (sample,)
            Labels of ``classes_``; ties go to the first.
        """
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(labels).argmax(axis=1)])

    def fuse(self, panel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fuse the first choices of a panel.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            NaN where a specialist is absent.

        Returns
        -------
        ndarray of shape (sample, output)
            Probabilities.

        Raises
        ------
        PanelError
            If specialists or outputs are not those of ``fit``.
        """
        check_is_fitted(self)
        values = read_answers(panel, (len(self.specialists_), len(self.classes_)))
        return self.predict_proba(values)

    def _check(self, task: str) -> None:
        if task != "classification":
            raise PanelError("truth inference is about labels; for numbers use 'covariance' or 'median'.")
        if self.model not in _MODELS:
            raise PanelError(f"model must be 'dawid_skene', 'one_coin' or 'majority'; got {self.model!r}.")
        if self.correlation not in ("independent", "discount"):
            raise PanelError(f"correlation must be 'independent' or 'discount'; got {self.correlation!r}.")
        if not (np.isfinite(self.smoothing) and self.smoothing >= 0):
            raise PanelError(f"smoothing must be a number >= 0; got {self.smoothing!r}.")
        if not isinstance(self.tol, int | float | np.number) or np.isnan(self.tol):
            raise PanelError(f"tol must be a number; got {self.tol!r}.")
        for name, least in (("n_iter", 1), ("refine", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
                raise PanelError(f"{name} must be a whole number >= {least}; got {value!r}.")


def _shares(table: LabelTable, start: Start, votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of weighted votes; known truths are sure, and samples without a vote get the mean share."""
    cell = table.sample_of_answer * table.n_classes + table.said
    sums = np.bincount(cell, weights=votes[table.who], minlength=table.n_samples * table.n_classes)
    sums = sums.reshape(table.n_samples, table.n_classes)
    known = np.flatnonzero(start.fixed >= 0)
    sums[known] = 0.0
    sums[known, start.fixed[known]] = 1.0
    total = sums.sum(axis=1)
    heard = total > 0
    shares = sums / np.where(heard, total, 1.0)[:, None]
    shares[~heard] = shares[heard].mean(axis=0) if heard.any() else 1.0 / table.n_classes
    if start.options is not None:  # of samples with options of their own no mean can be taken
        silent = start.options[~heard, None]
        shares[~heard] = (np.arange(table.n_classes) < silent) / silent
    return np.asarray(shares)


def _read_mass(sample_weight: Any, n_samples: int) -> NDArray[np.float64]:
    if sample_weight is None:
        return np.ones(n_samples)
    mass = np.asarray(sample_weight, dtype=np.float64)
    if mass.shape != (n_samples,) or not (mass >= 0).all() or not 0 < mass.sum() < np.inf:
        raise PanelError(f"sample_weight must be {n_samples} finite numbers >= 0, not all of them 0.")
    return mass


def _read_options(
    n_options: Any, table: LabelTable, fixed: NDArray[np.int64], model: str
) -> tuple[LabelTable, NDArray[np.int64]]:
    if model == "dawid_skene":
        raise PanelError("n_options says that codes differ in meaning; error rates need it. Use 'one_coin'.")
    counts = np.asarray(n_options)
    if counts.shape != (table.n_samples,) or counts.dtype.kind not in "iu" or (counts < 1).any():
        raise PanelError(f"n_options must be one whole number >= 1 per sample ({table.n_samples}).")
    if table.classes.dtype.kind not in "iu":
        raise PanelError(f"n_options counts codes 0, 1, ...; got labels {table.classes[:3].tolist()}.")
    known = fixed >= 0
    most = max(int(counts.max()), int(table.classes.max()) + 1)
    codes = table.classes
    fixed[known] = codes[fixed[known]]
    table = table.recoded(np.arange(most))
    if (table.said >= counts[table.sample_of_answer]).any() or (fixed >= counts).any():
        raise PanelError("there are labels at or above n_options of their sample.")
    return table, counts.astype(np.int64)
