"""Audit a panel against its truth: who errs with whom, what fusing is worth, and whom to pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from estimators.doubt import deferral_curve
from estimators.drift import measure_drift
from estimators.evidence import check_variation, named_errors, price_specialists, score_specialists
from estimators.findings import describe
from estimators.fusions import fusion_name
from estimators.leaderboard import (
    cross_fused,
    default_fusions,
    fit_on,
    fuse_with,
    paired_gain,
    rank_rules,
)
from estimators.liars import attack_rules
from estimators.raw_answers import code_words, read_answers, read_raw
from estimators.table import Table, read_table
from estimators.training import first_choices
from theory import (
    BudgetError,
    PanelError,
    bhattacharyya,
    certificate,
    effective_number,
    ensemble_variance,
    error_agreement,
    error_correlation,
    error_covariance,
    find_clones,
    vote_bounds,
)


class PanelAudit(BaseEstimator):
    """Say what a panel of specialists is worth, with intervals, and which fusion to use.

    Parameters
    ----------
    task : {"auto", "labels", "probabilities", "numbers"}
        What the answers are. ``"auto"``: integers or words (sample, specialist) are labels; several
        outputs with one label per sample as truth are probabilities; anything else is numbers.
    fusions : "auto", list of fusions or dict of str to fusion
        Rules to compare: names, operators, learned fusions or callables.
    cv : int
        Folds of the cross-fitted leaderboard.
    n_byzantine : sequence of int
        Numbers of liars to try in the robustness table; empty leaves it out, half the panel or more
        is left out with a warning.
    withstand : int
        Number of liars, fewer than half, that the recommended rule must be best against; 0 trusts
        everybody.
    n_subsets : int
        Most sets of liars to try for each number and lie.
    n_attack_samples : int
        Most samples to attack.
    drift_blocks : int or None
        Where samples are in order of time: number of consecutive blocks to compare.
    max_samples : int or None
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
    classes_ : ndarray or None
        Labels behind the codes, where the panel or its truth came with words.
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
        Prices under the mean (for labels: of votes, by the Brier score) with each group of clones
        counted once, where there are clones.
    leaderboard_ : DataFrame, index rule
        Cross-fitted scores, best first, with paired gains over the references.
    refused_ : dict of str to str
        Rules that this panel cannot serve, and why.
    robustness_ : DataFrame
        Scores under lies; empty if no liars were asked for.
    deferral_ : RiskCoverage
        What the recommended rule gets wrong, by the share of samples that it answers, the most doubtful
        handed on first.
    drift_ : Drift or None
        Accuracy and error correlation by blocks of samples, where ``drift_blocks`` is given.
    unattacked_, too_many_liars_ : dict of str to str, list of int
        Rules that the table of lies leaves out, and why; numbers of liars that are half the panel.
    table_, fused_, answers_, costs_ : Table, dict of str to ndarray, ndarray or None, ndarray or None
        What was read, the cross-fitted answer of each rule, the options put first, the costs given.
    recommended_fusion_ : object
        Fitted on all samples; ``predict`` applies it.
    recommended_name_, reasons_, findings_, warnings_ : str, list of str
        The recommendation, why, what else was found, and what to be careful about, in words.

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
        drift_blocks: int | None = None,
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
        self.drift_blocks = drift_blocks
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
        sample_weight: Any = None,
        costs: Any = None,
    ) -> PanelAudit:
        """Audit a panel of answers to samples that no specialist was fitted on.

        Parameters
        ----------
        panel : array-like, DataFrame or DataArray
            Labels (sample, specialist), as codes with -1 = abstained, or as words with None, NaN or ""
            = abstained; probabilities (sample, specialist, output); or numbers (sample, specialist) or
            with an output axis.
        y : array-like
            Codes or words of the right options, shape (sample,); or numbers. Where a DataArray of
            probabilities has an output coordinate, its values.
        n_options : int or array-like of int, shape (sample,), optional
            How many options each sample has, where codes are labels; by default as many as occur.
        names : sequence of str, optional
            Names of the specialists, where the panel carries none.
        groups : array-like of shape (sample,), optional
            Samples of one group stay together in folds and in standard errors.
        sample_weight : array-like of int, shape (sample,), optional
            How often each sample counts: as if it had been given so many times, and known to be one.
        costs : array-like of shape (specialist,), optional
            Cost of one answer of each specialist.

        Returns
        -------
        self : PanelAudit

        Raises
        ------
        PanelError
            If the panel or the truth does not have the form that was needed, or no fusion can serve them.
        BudgetError
            If ``withstand`` is half the panel or more.
        """
        table, self.n_given_ = read_table(
            panel,
            y,
            task=self.task,
            n_options=n_options,
            names=names,
            groups=groups,
            sample_weight=sample_weight,
            max_samples=self.max_samples,
            random_state=self.random_state,
        )
        self.table_ = table
        self.task_, self.names_, self.n_samples_ = table.task, table.names, len(table.y)
        self.classes_ = table.classes
        self.costs_ = None if costs is None else _read_costs(costs, len(table.names))
        liars = self._liar_numbers(len(table.names))
        fusions = self._rules(table, liars)
        steps = 4 + len(fusions) * (1 + bool(liars))
        with tqdm(total=steps, disable=not self.verbose, leave=False, unit="step") as bar:

            def tick(what: str) -> None:
                bar.set_postfix_str(what)
                bar.update()

            self._measure(table)
            tick("correlation")
            self._bound(table)
            tick("bounds")
            self.prices_, self.quotient_prices_ = price_specialists(
                table, self.answers_, self.errors_, self.clones_
            )
            tick("prices")
            self.fused_, self.refused_ = cross_fused(
                table, fusions, cv=self.cv, random_state=self.random_state, tick=tick
            )
            if not self.fused_:
                raise PanelError(f"no fusion can serve this panel: {self.refused_}.")
            self.leaderboard_ = rank_rules(table, self.fused_, references=self._references(table))
            self.robustness_, self.unattacked_ = attack_rules(
                table,
                {name: fusions[name] for name in self.fused_} if liars else {},
                n_byzantine=liars,
                n_subsets=self.n_subsets,
                n_samples=self.n_attack_samples,
                random_state=self.random_state,
                tick=tick,
            )
            self.recommended_name_ = self._recommend()
            self._fuser = fit_on(table, fusions[self.recommended_name_])
            self.recommended_fusion_ = self._fuser.fusion
            self._certify(table)
            chosen = self.fused_[self.recommended_name_]
            self.deferral_ = deferral_curve(table, chosen)
            self.drift_ = (
                None
                if self.drift_blocks is None
                else measure_drift(table, self.errors_, chosen, n_blocks=self.drift_blocks)
            )
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

        Raises
        ------
        PanelError
            If the panel is not of the specialists and the kind of ``fit``.
        """
        check_is_fitted(self, "recommended_fusion_")
        n_outputs = self.table_.panel.shape[2]
        raw = read_raw(panel)
        default = tuple(str(i) for i in range(len(self.names_)))
        if raw.names not in (None, self.names_) and self.names_ != default:
            raise PanelError(
                f"specialists must be those of fit, in its order ({', '.join(self.names_)}); got "
                f"{', '.join(raw.names)}. Reorder the panel by names_."
            )
        if self.task_ == "labels" and self.classes_ is not None:
            raw = code_words(raw, self.classes_)
        elif (
            self.classes_ is not None and raw.classes is not None and list(raw.classes) != list(self.classes_)
        ):
            raise PanelError(f"outputs must be those of fit, {list(self.classes_)}; got {list(raw.classes)}.")
        values, counts, _ = read_answers(raw, self.task_, n_options=n_options, n_outputs=n_outputs)
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
            Label codes (-1 where nobody answered), words where the panel of ``fit`` had words, or numbers.

        Raises
        ------
        PanelError
            If the panel is not of the specialists and the kind of ``fit``, or nobody answered a sample
            and there is no word for that.
        """
        fused = self.fuse(panel, n_options=n_options)
        if self.task_ == "numbers":
            return fused[:, 0] if fused.shape[1] == 1 else fused
        codes = first_choices(fused[:, None, :])[:, 0]
        if self.classes_ is None:
            return codes
        if (codes < 0).any():
            raise PanelError(
                f"nobody answered {int((codes < 0).sum())} samples (first: {int((codes < 0).argmax())}). Leave them "
                "out, or use fuse, which gives NaN there."
            )
        return np.asarray(self.classes_[codes])

    def _rules(self, table: Table, liars: list[int]) -> dict[str, Any]:
        if isinstance(self.fusions, str):
            if self.fusions != "auto":
                raise PanelError(f"fusions must be 'auto', a list or a dict; got {self.fusions!r}.")
            return default_fusions(table.task, len(table.names), liars or [1])
        if isinstance(self.fusions, dict):
            return dict(self.fusions)
        names = [fusion_name(fusion) for fusion in self.fusions]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise PanelError(f"fusions holds {', '.join(twice)} twice. Give a dict of your names to fusions.")
        return dict(zip(names, self.fusions, strict=True))

    def _references(self, table: Table) -> tuple[str, ...]:
        return ("best_single", "plurality_vote") if table.task == "labels" else ("best_single", "mean")

    def _liar_numbers(self, n_specialists: int) -> list[int]:
        asked = sorted({int(f) for f in self.n_byzantine} | {int(self.withstand)})
        if asked[0] < 0:
            raise PanelError(f"numbers of liars must be >= 0; got {asked[0]}.")
        most = (n_specialists - 1) // 2
        if self.withstand > most:
            raise BudgetError(
                f"withstand={self.withstand} needs at least {2 * self.withstand + 1} specialists; got "
                f"{n_specialists}. Lower withstand to {most}, or add specialists."
            )
        self.too_many_liars_ = [f for f in asked if f > most]
        return [f for f in asked if 0 < f <= most]

    def _measure(self, table: Table) -> None:
        self.answers_, self.errors_, self.scores_ = score_specialists(table)
        check_variation(self.errors_)
        named = named_errors(self.errors_, table.names)
        missing: Any = "abstain" if np.isnan(self.errors_).any() else "raise"
        self.error_covariance_ = error_covariance(named, kind="covariance", missing=missing)
        self.error_correlation_ = error_correlation(named, groups=table.groups, missing=missing)
        self.variance_ = ensemble_variance(self.error_covariance_)
        self.effective_number_ = effective_number(named, groups=table.groups, missing=missing)
        self.clones_ = find_clones(
            named, threshold=self.clone_threshold, groups=table.groups, missing=missing
        )
        self.agreement_ = None
        if table.task != "numbers":
            self.agreement_ = error_agreement(
                self.answers_, table.y, n_options=table.option_counts, groups=table.groups
            )

    def _bound(self, table: Table) -> None:
        self.bounds_: dict[str, Any] = {}
        if table.task == "numbers":
            return
        self.bounds_["plurality"] = vote_bounds((self.answers_ == table.y[:, None]).astype(float))

    def _certify(self, table: Table) -> None:
        if table.task == "numbers":
            return
        for name in ("plurality_vote", "mean"):
            if name in self.fused_:  # fixed before the samples were seen, so its own errors certify it
                wrong = 1.0 - (first_choices(self.fused_[name][:, None, :])[:, 0] == table.y)
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
            worst = at.groupby("rule")["worst"].min().reindex(self.leaderboard_.index)
            if worst.isna().all():
                raise PanelError(f"no fusion can serve this panel with liars: {self.unattacked_}.")
            return str(worst.idxmax())  # ties go to whoever is better with everybody honest
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


def _read_costs(costs: Any, n_specialists: int) -> NDArray[np.float64]:
    try:
        values = np.asarray(costs, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (n_specialists,) or not ((values > 0) & (values < np.inf)).all():
        raise PanelError(
            f"costs must be {n_specialists} positive numbers, one per specialist; got {costs!r}."
        )
    return values
