"""Audit a panel against its truth: who errs with whom, what fusing is worth, and whom to pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from estimators.findings import describe
from estimators.fusions import fusion_name
from estimators.leaderboard import cross_fused, default_fusions, fit_on, fuse_with, paired_gain, rank_rules
from estimators.liars import attack_rules
from estimators.table import Table, read_answers, read_table
from theory import (
    PanelError,
    bhattacharyya,
    certificate,
    effective_number,
    ensemble_variance,
    error_agreement,
    error_correlation,
    error_covariance,
    find_clones,
    panel_errors,
    price,
    vote_bounds,
)


class PanelAudit(BaseEstimator):
    """Say what a panel of specialists is worth, with intervals, and which fusion to use.

    Parameters
    ----------
    task : {"auto", "labels", "probabilities", "numbers"}
        What the answers are. ``"auto"``: integers (sample, specialist) are labels; three axes with
        rows that sum to 1 are probabilities; anything else is numbers.
    fusions : "auto" or list of fusions
        Rules to compare: names, operators, learned fusions or callables.
    cv : int
        Folds of the cross-fitted leaderboard.
    n_byzantine : sequence of int
        Numbers of liars to try in the robustness table; empty leaves it out.
    withstand : int
        Number of liars that the recommended rule must be best against; 0 trusts everybody.
    n_subsets : int
        Most sets of liars to try for each number and lie.
    n_attack_samples : int
        Most samples to attack.
    max_samples : int
        A longer panel is audited on so many samples, drawn at random; a warning says so.
    clone_threshold : float
        Error correlation above which two specialists count as copies of one.
    random_state : int, RandomState or None
        Of folds, halves and sets of liars.
    verbose : bool
        Whether to show a progress bar.

    Attributes
    ----------
    task_ : str
        Resolved task.
    names_ : tuple of str
        Names of the specialists.
    n_samples_, n_given_ : int
        Number of samples audited, and of samples given.
    scores_ : DataFrame, index specialist
        ``score`` (accuracy, an abstention counting as not right; or R2), ``se``, ``answered``.
    errors_ : ndarray of shape (sample, specialist) or (sample, specialist, output)
        1 where a label is wrong or absent; probability - onehot; or answer - truth.
    error_covariance_, error_correlation_ : theory.ErrorMatrix
        Covariance and correlation of the errors, with intervals.
    agreement_ : theory.Agreement or None
        Agreement of all pairs, for labels and probabilities.
    effective_number_ : theory.EffectiveNumber
        Independent specialists that the panel is worth.
    variance_ : theory.VarianceReport
        Variance of the mean error, against independent errors.
    bounds_ : dict of str to theory.Bound
        What the errors imply; each says what it bounds and what it assumes.
    prices_ : theory.Prices
        What each specialist earns: plurality vote for labels, mean for the others.
    clones_ : theory.Clones
        Specialists that err alike.
    quotient_prices_ : theory.Prices or None
        Prices with each group of clones counted once, where there are clones.
    leaderboard_ : DataFrame, index rule
        Cross-fitted scores, best first, with paired gains over the references.
    refused_ : dict of str to str
        Rules that this panel cannot serve, and why.
    robustness_ : DataFrame
        Scores under lies.
    recommended_fusion_ : object
        Fitted on all samples; ``predict`` applies it.
    recommended_name_, reasons_, findings_, warnings_ : str, list of str
        The recommendation, why, what else was found, and what to be careful about, in words.

    Raises
    ------
    PanelError
        In ``fit``, if the panel or the truth does not have the form that was needed.

    See Also
    --------
    estimators.RobustFusionClassifier : makes an out-of-fold panel from models.

    Examples
    --------
    >>> from theory import difficulty_panel
    >>> simulated = difficulty_panel(400, 5, accuracy=0.7, rho=0.3, seed=0)
    >>> audit = PanelAudit(n_byzantine=(), random_state=0).fit(simulated.answers, simulated.y, n_options=4)
    >>> audit.leaderboard_.index.name, len(audit.prices_.value)
    ('rule', 5)
    """

    def __init__(
        self,
        *,
        task: str = "auto",
        fusions: Any = "auto",
        cv: int = 5,
        n_byzantine: Sequence[int] = (1, 2),
        withstand: int = 0,
        n_subsets: int = 16,
        n_attack_samples: int = 1000,
        max_samples: int = 50_000,
        clone_threshold: float = 0.9,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.task = task
        self.fusions = fusions
        self.cv = cv
        self.n_byzantine = n_byzantine
        self.withstand = withstand
        self.n_subsets = n_subsets
        self.n_attack_samples = n_attack_samples
        self.max_samples = max_samples
        self.clone_threshold = clone_threshold
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self,
        panel: Any,
        y: Any,
        *,
        n_options: Any = None,
        names: Sequence[str] | None = None,
        groups: Any = None,
        costs: Any = None,
    ) -> PanelAudit:
        """Audit a panel of answers to samples that no specialist was fitted on.

        Parameters
        ----------
        panel : array-like, DataFrame or DataArray
            Label codes (sample, specialist), -1 = abstained; probabilities
            (sample, specialist, output); or numbers (sample, specialist) or with an output axis.
        y : array-like
            Codes of the right options, shape (sample,); or numbers.
        n_options : int or array-like of int, shape (sample,), optional
            How many options each sample has, where codes are labels; by default as many as occur.
        names : sequence of str, optional
            Names of the specialists, where the panel carries none.
        groups : array-like of shape (sample,), optional
            Samples of one group stay together in folds and in standard errors.
        costs : array-like of shape (specialist,), optional
            Cost of one answer of each specialist.

        Returns
        -------
        self : PanelAudit
        """
        table, self.n_given_ = read_table(
            panel,
            y,
            task=self.task,
            n_options=n_options,
            names=names,
            groups=groups,
            max_samples=self.max_samples,
            random_state=self.random_state,
        )
        self.table_ = table
        self.task_, self.names_, self.n_samples_ = table.task, table.names, len(table.y)
        self.costs_ = None if costs is None else np.asarray(costs, dtype=np.float64)
        if self.costs_ is not None and (
            self.costs_.shape != (len(table.names),) or not (self.costs_ > 0).all()
        ):
            raise PanelError(f"costs must be {len(table.names)} positive numbers, one per specialist.")
        fusions = self._rules(table)
        steps = 4 + len(fusions) * (1 + bool(self.n_byzantine))
        with tqdm(total=steps, disable=not self.verbose, leave=False, unit="step") as bar:

            def tick(what: str) -> None:
                bar.set_postfix_str(what)
                bar.update()

            self._measure(table)
            tick("correlation")
            self._bound(table)
            tick("bounds")
            self._price(table)
            tick("prices")
            self.fused_, self.refused_ = cross_fused(
                table, fusions, cv=self.cv, random_state=self.random_state, tick=tick
            )
            if not self.fused_:
                raise PanelError(f"no fusion can serve this panel: {self.refused_}.")
            self.leaderboard_ = rank_rules(table, self.fused_, references=self._references(table))
            self.robustness_ = attack_rules(
                table,
                {name: fusion for name, fusion in fusions.items() if name in self.fused_},
                n_byzantine=self._liar_numbers(table),
                n_subsets=self.n_subsets,
                n_samples=self.n_attack_samples,
                random_state=self.random_state,
                tick=tick if self.n_byzantine else lambda _: None,
            )
            self.recommended_name_ = self._recommend()
            self._fuser = fit_on(table, fusions[self.recommended_name_])
            self.recommended_fusion_ = self._fuser.fusion
            self._certify(table)
            tick("recommendation")
        self.reasons_, self.findings_, self.warnings_ = describe(self)
        return self

    def fuse(self, panel: Any, *, n_options: Any = None) -> NDArray[np.float64]:
        """Fuse a new panel by the recommended rule.

        Parameters
        ----------
        panel : array-like, DataFrame or DataArray
            As in ``fit``, with the same specialists in the same order.
        n_options : int or array-like of int, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (sample, output)
            Shares, probabilities or numbers; NaN where nobody answered.
        """
        check_is_fitted(self, "recommended_fusion_")
        n_outputs = self.table_.panel.shape[2]
        values, counts = read_answers(panel, self.task_, n_options, n_outputs)
        known = self.table_.panel.shape[1:]
        if values.shape[1] != known[0] or (self.task_ != "labels" and values.shape[2] != known[1]):
            raise PanelError(f"panel needs {known} (specialist, output) as in fit; got {values.shape[1:]}.")
        nothing = np.zeros((len(values), n_outputs) if self.task_ == "numbers" else len(values), dtype=int)
        return fuse_with(self._fuser, Table(values, nothing, self.task_, counts, self.names_))

    def predict(self, panel: Any, *, n_options: Any = None) -> NDArray[Any]:
        """Answer by the recommended rule.

        Parameters
        ----------
        panel : array-like, DataFrame or DataArray
            As in ``fit``.
        n_options : int or array-like of int, optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (sample,) or (sample, output)
            Label codes (-1 where nobody answered), or numbers.
        """
        fused = self.fuse(panel, n_options=n_options)
        if self.task_ == "numbers":
            return fused[:, 0] if fused.shape[1] == 1 else fused
        answered = ~np.isnan(fused).all(axis=1)
        return np.where(answered, np.nan_to_num(fused, nan=-np.inf).argmax(axis=1), -1)

    def _rules(self, table: Table) -> dict[str, Any]:
        if isinstance(self.fusions, str) and self.fusions == "auto":
            return default_fusions(table.task, len(table.names), self._liar_numbers(table) or [1])
        return {fusion_name(fusion): fusion for fusion in self.fusions}

    def _references(self, table: Table) -> tuple[str, ...]:
        return ("best_single", "plurality_vote") if table.task == "labels" else ("best_single", "mean")

    def _liar_numbers(self, table: Table) -> list[int]:
        asked = sorted({int(f) for f in self.n_byzantine} | ({self.withstand} if self.withstand else set()))
        return [f for f in asked if 0 < f < len(table.names) / 2]

    def _measure(self, table: Table) -> None:
        import pandas as pd

        gone = np.isnan(table.panel).all(axis=2)
        if table.task == "labels":
            codes = np.where(gone, -1, np.nan_to_num(table.panel).argmax(axis=2))
            self.answers_ = codes
            self.errors_ = panel_errors(codes, table.y, kind="zero_one")
            hit = 1.0 - self.errors_
        elif table.task == "probabilities":
            self.errors_ = panel_errors(table.panel, table.y, kind="probability")
            chosen = np.where(gone, -1, np.nan_to_num(table.panel, nan=-np.inf).argmax(axis=2))
            self.answers_ = chosen
            hit = (chosen == table.y[:, None]).astype(float)
        else:
            errors = panel_errors(table.panel, table.y, kind="residual")
            self.errors_ = errors[:, :, 0] if errors.ndim == 3 and errors.shape[2] == 1 else errors
            squares = ((table.panel - table.y[:, None, :]) ** 2).sum(axis=2)
            spread = ((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean() or 1.0
            hit = 1.0 - squares / spread
        counts = (~gone).sum(axis=0) if table.task == "numbers" else np.full(len(table.names), len(hit))
        self.scores_ = pd.DataFrame(
            {
                "score": np.nanmean(hit, axis=0),
                "se": np.nanstd(hit, axis=0, ddof=1) / np.sqrt(np.maximum(counts, 1)),
                "answered": 1.0 - gone.mean(axis=0),
            },
            index=pd.Index(table.names, name="specialist"),
        )
        named = _named(self.errors_, table.names)
        missing: Any = "abstain" if np.isnan(self.errors_).any() else "raise"
        self.error_covariance_ = error_covariance(named, kind="covariance", missing=missing)
        self.error_correlation_ = error_correlation(named, groups=table.groups, missing=missing)
        self.variance_ = ensemble_variance(self.error_covariance_)
        self.effective_number_ = effective_number(named, groups=table.groups, missing=missing)
        self.clones_ = find_clones(named, threshold=self.clone_threshold, missing=missing)
        self.agreement_ = None
        if table.task != "numbers":
            self.agreement_ = error_agreement(self.answers_, table.y, n_options=self._option_counts(table))

    def _option_counts(self, table: Table) -> Any:
        return table.panel.shape[2] if table.n_options is None else table.n_options

    def _bound(self, table: Table) -> None:
        self.bounds_: dict[str, Any] = {}
        if table.task == "numbers":
            return
        correct = (self.answers_ == table.y[:, None]).astype(float)
        if len(correct) >= 8:
            self.bounds_["plurality"] = vote_bounds(correct)

    def _price(self, table: Table) -> None:
        missing: Any = "abstain" if np.isnan(self.errors_).any() else "raise"
        if table.task == "labels":
            call = dict(y=table.y, game="plurality", n_options=self._option_counts(table), v0="chance")
            data: Any = self.answers_
        elif table.task == "probabilities":
            prior = np.bincount(table.y, minlength=table.panel.shape[2]) / len(table.y)
            call = dict(v0=float(1.0 - (prior**2).sum()), missing=missing)
            data = self.errors_
        else:
            v0 = float(((table.y - table.y.mean(axis=0)) ** 2).sum(axis=1).mean())
            call = dict(v0=v0, missing=missing)
            data = self.errors_
        call |= {"names": list(table.names), "groups": table.groups, "cross_fitted": True}
        self.prices_ = price(data, **call)
        self.quotient_prices_ = None
        if self.clones_.clusters and table.task != "labels":
            self.quotient_prices_ = price(data, **call, clusters=self.clones_)

    def _certify(self, table: Table) -> None:
        if table.task == "numbers":
            return
        for name in ("plurality_vote", "mean"):
            if name in self.fused_:  # fixed before the samples were seen, so its own errors certify it
                wrong = 1.0 - (self.fused_[name].argmax(axis=1) == table.y)
                self.bounds_[f"certificate of {name}"] = certificate(wrong)
        fused = self.fused_[self.recommended_name_]
        answered = ~np.isnan(fused).all(axis=1)
        mass = np.nansum(fused, axis=1)
        if answered.all() and (np.abs(mass - 1.0) < 1e-6).all() and (fused >= 0).all():
            self.bounds_[f"Bayes error given {self.recommended_name_}"] = bhattacharyya(
                posterior=fused, y=table.y
            )

    def _recommend(self) -> str:
        if self.withstand:
            at = self.robustness_[self.robustness_["n_byzantine"] == self.withstand]
            if len(at):
                return str(at.groupby("rule")["worst"].min().idxmax())
        board = self.leaderboard_
        if self.task_ == "numbers":
            return str(board.index[0])
        # accuracies within noise of the top are told apart by the Brier score, which varies less
        top = self.fused_[board.index[0]]
        level = []
        for rule in board.index:
            gain, se = paired_gain(self.table_, top, self.fused_[rule])
            if gain <= se or rule == board.index[0]:
                level.append(rule)
        return str(board.loc[level, "brier"].idxmin())

    def to_html(self, path: Any = None, *, title: str = "Panel audit") -> str:
        """Write the audit as one self-contained HTML page.

        Parameters
        ----------
        path : str or path-like, optional
            File to write.
        title : str
            Title of the page.

        Returns
        -------
        str
            The page: no script, no external resource, plots as inline SVG.
        """
        check_is_fitted(self, "recommended_fusion_")
        from estimators.report import render

        page = render(self, title=title)
        if path is not None:
            from pathlib import Path

            Path(path).write_text(page, encoding="utf-8")
        return page


def _named(errors: NDArray[np.float64], names: tuple[str, ...]) -> Any:
    from xarray import DataArray

    dims = ("sample", "specialist", "output")[: errors.ndim]
    return DataArray(errors, dims=dims, coords={"specialist": list(names)})
