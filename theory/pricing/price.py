"""The one entry to prices: it reads what came, picks the game, and reports how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._backends import refuse_other_samples
from theory._checks import check_choice, check_level, is_matrix
from theory._exceptions import PanelError
from theory.pricing._fixed_weights import price_fixed_weights
from theory.pricing._neighbours import price_neighbours
from theory.pricing._order_games import price_order
from theory.pricing._precision_game import Link, price_precision
from theory.pricing._semivalues import check_rule
from theory.pricing._sources import (
    price_callable,
    price_from_errors,
    price_from_matrix,
    price_fused,
    price_votes,
)
from theory.pricing._terms import Terms, read_v0_needed
from theory.pricing._weighted_votes import price_weighted_majority
from theory.pricing.baseline import Baseline
from theory.pricing.result import Prices

Floats = NDArray[np.float64]


Game = Literal[
    "auto", "mean", "fixed_weights", "trimmed", "winsorized", "median", "majority", "plurality",
    "weighted_majority", "precision", "gls", "info", "bhattacharyya", "knn", "fuse", "callable",
]  # fmt: skip
_SORTING = ("trimmed", "winsorized", "median")
_VOTES = ("majority", "plurality")
_PRECISION = ("precision", "gls", "info", "bhattacharyya")
# Which options each game makes use of, beside those that all games share.
_USES = {
    "mean": {"v0", "baseline", "clusters", "split", "given", "groups", "per_sample", "missing"},
    "fixed_weights": {"v0", "weights", "given", "groups", "per_sample"},
    "trimmed": {"v0", "n_byzantine", "proportiontocut", "groups", "per_sample", "missing"},
    "winsorized": {"v0", "n_byzantine", "proportiontocut", "groups", "per_sample", "missing"},
    "median": {"v0", "groups", "per_sample", "missing"},
    "majority": {"v0", "y", "n_options", "groups", "per_sample"},
    "plurality": {"v0", "y", "n_options", "groups", "per_sample"},
    "weighted_majority": {"v0", "y", "weights", "groups", "per_sample"},
    "knn": {"v0", "y", "distance", "n_neighbors", "groups", "per_sample"},
    "precision": {"v0", "given", "groups", "shrink", "shift", "exact", "n_permutations", "n_bootstrap"},
    "info": {
        "v0",
        "given",
        "groups",
        "shrink",
        "shift",
        "prior_variance",
        "exact",
        "n_permutations",
        "n_bootstrap",
    },
    "gls": {
        "v0",
        "given",
        "groups",
        "shrink",
        "shift",
        "prior_variance",
        "exact",
        "n_permutations",
        "n_bootstrap",
    },
    "bhattacharyya": {"v0", "given", "groups", "shrink", "shift", "exact", "n_permutations", "n_bootstrap"},
    "fuse": {"v0", "y", "fuse", "loss", "n_options", "groups", "per_sample", "exact", "n_permutations"},
    "callable": {"v0", "exact", "n_permutations"},
}
_DEFAULTS: dict[str, Any] = {
    "split": "equal", "given": "auto", "per_sample": False, "missing": "raise",
    "n_bootstrap": 100,
}  # fmt: skip


def price(
    source: Any,
    *,
    v0: float | ArrayLike | Literal["chance"] | None = None,
    rule: Literal["shapley", "banzhaf", "leave_one_out", "solo", "beta"] = "shapley",
    beta: tuple[float, float] | None = None,
    game: Game = "auto",
    y: ArrayLike | None = None,
    n_options: ArrayLike | None = None,
    fuse: Callable[[Any], Any] | None = None,
    loss: str | Callable[[Any, Any], ArrayLike] | None = None,
    n_byzantine: int | None = None,
    proportiontocut: float | None = None,
    weights: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    prior_variance: float | None = None,
    shrink: str | float | None = None,
    distance: ArrayLike | None = None,
    n_neighbors: int | None = None,
    quorum: int = 1,
    baseline: Baseline | None = None,
    clusters: Any = None,
    split: Literal["equal", "euler", "first"] = "equal",
    given: Literal["auto", "errors", "matrix"] = "auto",
    ci: float = 0.95,
    se: bool = True,
    groups: ArrayLike | None = None,
    per_sample: bool = False,
    missing: Literal["raise", "abstain"] = "raise",
    exact: bool | None = None,
    n_permutations: int | None = None,
    n_bootstrap: int = 100,
    seed: int = 0,
    names: Sequence[str] | None = None,
    cross_fitted: bool = False,
) -> Prices:
    """Pay every specialist what it takes away from the panel's loss.

    A game says what loss a coalition of specialists has; a semivalue says how a specialist's
    contributions to coalitions are averaged. The price is minus the attributed loss: positive earns.
    Shapley prices sum to ``v0`` minus the loss of the full panel.

    Parameters
    ----------
    source : array-like, ErrorMatrix or callable
        What is priced, by game. ``"mean"``, ``"fixed_weights"`` and the precision games: a (specialist,
        specialist) second moment of errors, or errors (sample, specialist) or (sample, specialist, output).
        ``"trimmed"``, ``"winsorized"``, ``"median"``: errors. ``"plurality"``: label codes (sample,
        specialist), -1 = abstains, with ``y``. ``"majority"``, ``"weighted_majority"``, ``"knn"``: a (sample,
        specialist) table of 1 = right, 0 = wrong, NaN = abstains; or label codes with ``y``. ``"fuse"``: a panel
        (sample, specialist, output), or label codes (sample, specialist), with ``y`` and ``fuse``.
        ``"callable"``: a function from a tuple of specialist indices to the loss of that coalition, with
        ``names``.
    v0 : float, array-like of shape (sample,) or "chance"
        Loss of the empty panel: prior variance, incumbent, chance. It shifts every price, so it has a default
        only where the game knows it (0 for ``"precision"`` and ``"info"``, 1/2 for ``"bhattacharyya"``, 1 for
        ``"knn"``, ``prior_variance`` for ``"gls"``). ``"chance"`` is a uniform guess among ``n_options``, for
        votes and ``"fuse"``: it loses 1 - 1/n_options (zero-one and Brier) or ln n_options (log); a majority
        has 2 unless given.
    rule : {"shapley", "banzhaf", "leave_one_out", "solo", "beta"}
        The semivalue.
    beta : tuple of two floats, optional
        Parameters of ``rule="beta"``; (1, 1) is Shapley.
    game : str
        The loss of a coalition; ``"auto"`` is ``"fuse"`` when ``fuse`` is given, ``"callable"`` for a function,
        else ``"mean"``. Squared error of the mean (``"mean"``), of the mean without ``n_byzantine`` errors at
        each end (``"trimmed"``), with those pulled in (``"winsorized"``), of the median (``"median"``), or of a
        sum with ``weights`` in which absent specialists leave their share of v0 (``"fixed_weights"``). The
        chance that the vote is wrong, ties split (``"majority"``, ``"plurality"``, ``"weighted_majority"``),
        or that one of the ``n_neighbors`` nearest is (``"knn"``). With p = shift' C^-1 shift of the coalition,
        what optimal weights reach: -p (``"precision"``), the variance 1/p (``"gls"``), minus the information
        ln(1 + prior_variance p) / 2 (``"info"``), the bound v0 exp(-p/8) on the error of telling two classes
        apart (``"bhattacharyya"``). Any rule on a panel (``"fuse"``), any function (``"callable"``).
    y : array-like, optional
        The truth: label codes (sample,), or numbers (sample,) or (sample, output) for ``"fuse"``.
    n_options : int or array-like of shape (sample,), optional
        Options of every sample, for ``v0="chance"``.
    fuse : callable, optional
        The deployed rule: takes the panel of a coalition, gives (sample, output), or label codes
        (sample,).
    loss : {"squared", "brier", "zero_one", "log"} or callable, optional
        Loss of fused answers against ``y``, for ``"fuse"``; a callable gives shape (sample,). ``"zero_one"``
        splits ties among the largest outputs; ``"log"`` clips probabilities at 1e-12.
    n_byzantine : int, optional
        Errors that ``"trimmed"`` and ``"winsorized"`` cut at each end (papers write f); small coalitions of size
        t cut at most (t - 1) // 2.
    proportiontocut : float, optional
        Share to cut at each end, rounded down, instead of ``n_byzantine``.
    weights : array-like of shape (specialist,), optional
        Of ``"fixed_weights"``, summing to 1; or of ``"weighted_majority"``, whole numbers >= 0.
    shift : array-like of shape (specialist,), optional
        Precision games: what each specialist's answer moves by when the truth moves by 1 (when the class
        changes, for ``"bhattacharyya"``); 1 by default.
    prior_variance : float, optional
        Of the truth, for ``"info"``; for ``"gls"`` it adds a prior, so that a coalition loses
        1 / (p + 1 / prior_variance).
    shrink : str or float, optional
        Precision games from errors: as in `error_covariance`.
    distance : array-like of shape (sample, specialist), optional
        For ``"knn"``; ties go to the specialist that comes first.
    n_neighbors : int, optional
        For ``"knn"``.
    quorum : int
        Least number of specialists that may speak; below it the panel has loss ``v0``. For robust
        rules use 2 n_byzantine + 1, since no rule helps a coalition of one.
    baseline : Baseline, optional
        Mean game only: a baseline that is always present. Then ``v0`` is its loss and is left out.
    clusters : array-like of shape (specialist,) or Clones, optional
        Mean game only: price the mean of every cluster, then split inside, so that copies earn
        nothing (quotient prices). The full panel is then the mean of the cluster means.
    split : {"equal", "euler", "first"}
        How a cluster's price is split: equally; by how each member's errors enter it; or all to the
        member that comes first in the panel.
    given : {"auto", "errors", "matrix"}
        What a square ``source`` is.
    ci : float
        Level of the intervals.
    se : bool
        Whether to compute standard errors; without them prices of the mean game need one pass over the errors
        and no memory beyond one number per specialist.
    groups : array-like of shape (sample,), optional
        Samples that belong together, for standard errors.
    per_sample : bool
        Keep the prices of every sample.
    missing : {"raise", "abstain"}
        Mean and sorting games from errors: with ``"abstain"``, NaN means that a specialist plays no part in
        that sample and earns 0 there.
    exact : bool, optional
        ``"fuse"`` and ``"callable"``: True enumerates all coalitions (up to 16 specialists), False
        samples orders, None enumerates up to 12. Precision games: up to 25, for None too.
    n_permutations : int, optional
        Orders to sample; each is used with its reverse. None is 200, and 1000 for precision games, where an
        order costs one factorisation and fewer leave intervals too narrow when some specialists are weak.
    n_bootstrap : int
        Draws for the standard errors of precision games from errors.
    seed : int
        Seed of the orders and of the bootstrap.
    names : sequence of str, optional
        Names of the specialists; required for ``"callable"``.
    cross_fitted : bool
        Declares that no specialist was fitted on these samples; otherwise a reminder is added to
        ``warnings`` wherever prices come from errors.

    Returns
    -------
    Prices
        ``value`` in units of the loss, with standard errors and intervals wherever there are samples.

    Raises
    ------
    PanelError
        If ``v0`` is missing, the source does not fit the game, the matrix is asymmetric, indefinite or (for
        precision games) singular, or options contradict each other (a quorum with a baseline, for instance).
    BudgetError
        If a sorting rule would cut everything.

    Notes
    -----
    All games but ``"fuse"``, ``"callable"`` and large precision games are closed forms: nothing is sampled,
    and ``exact`` is True. Ties among errors and votes are treated as the rule treats them. Standard errors
    treat the rule as fixed. Price under the rule you deploy: an outlier that the median ignores can earn
    under it and cost under the mean. A quorum or a baseline keeps prices from hanging on coalitions of one.
    Prices from errors on fitting data are too high. Under squared error prices are not truthful:
    ``exaggeration`` says by how much it pays to lean away from the others.

    References
    ----------
    Shapley, 1953; Dubey, Neyman and Weber, *Value theory without efficiency*, 1981; Jia et al., *Efficient
    task-specific data valuation for nearest neighbor algorithms*, 2019. We are not aware of an earlier
    publication of the closed forms of the mean game and of rules that sort, nor of the enumeration of the
    precision game by Schur complements.

    Examples
    --------
    Two specialists with independent errors of variance 1, against a prior variance of 2:

    >>> result = price([[1.0, 0.0], [0.0, 1.0]], v0=2.0)
    >>> result.value, result.total
    (array([0.75, 0.75]), 1.5)

    Three voters; the third abstains on the second question:

    >>> votes = price([[0, 0, 1], [1, 1, -1]], y=[0, 1], game="plurality", v0=0.5)
    >>> votes.value.round(4), round(votes.total, 4)
    (array([ 0.3333,  0.3333, -0.1667]), 0.5)

    An outlier costs under the mean, and hardly less than the others earns under the median:

    >>> errors = [[0.1, -0.2, 0.0, 0.3, 9.0], [0.2, 0.1, -0.1, -0.3, 9.0]]
    >>> price(errors, v0=4.0, quorum=3).value.round(2)
    array([ 0.77,  0.89,  0.89,  0.86, -2.69])
    >>> price(errors, v0=4.0, quorum=3, game="median").value.round(2)
    array([0.8 , 0.8 , 0.81, 0.79, 0.79])
    """
    check_choice("game", game, ("auto", *_USES))
    if game == "auto":
        game = "fuse" if fuse is not None else "callable" if callable(source) else "mean"
    beta = check_rule(rule, beta)
    check_choice("split", split, ("equal", "euler", "first"))
    if not isinstance(quorum, int | np.integer) or quorum < 1:
        raise PanelError(f"quorum is a whole number of specialists, at least 1; got {quorum!r}.")
    terms = Terms(
        rule,
        beta,
        int(quorum),
        check_level(ci),
        per_sample,
        cross_fitted,
        None if names is None else tuple(names),
        bool(se),
    )
    _refuse_idle(
        game,
        y=y, n_options=n_options, fuse=fuse, loss=loss, n_byzantine=n_byzantine, proportiontocut=proportiontocut,
        weights=weights, shift=shift, prior_variance=prior_variance, shrink=shrink, distance=distance,
        n_neighbors=n_neighbors, baseline=baseline, clusters=clusters, split=split, given=given, groups=groups,
        per_sample=per_sample, missing=missing, exact=exact, n_permutations=n_permutations,
        n_bootstrap=n_bootstrap,
    )  # fmt: skip
    if baseline is not None and quorum != 1:
        raise PanelError(
            f"quorum={quorum} with a baseline: the baseline always speaks, so no quorum can be missed. Leave "
            "one of them out."
        )
    check_choice("missing", missing, ("raise", "abstain"))
    if groups is not None and not se:
        raise PanelError("groups= serve the standard errors, which se=False leaves out. Give one of the two.")
    if n_permutations is None:
        n_permutations = 1000 if game in _PRECISION else 200
    if y is not None:
        refuse_other_samples(source, y)
    if game == "callable":
        return price_callable(
            source, read_v0_needed(v0), terms, exact=exact, n_permutations=n_permutations, seed=seed
        )
    if game == "fuse":
        assert fuse is not None
        return price_fused(
            source, y, fuse, loss, v0, n_options, terms,
            groups=groups, exact=exact, n_permutations=n_permutations, seed=seed,
        )  # fmt: skip
    if game in _SORTING:
        return price_order(
            source, v0, game, n_byzantine, proportiontocut, terms, groups=groups, missing=missing
        )
    if game in _VOTES:
        return price_votes(source, y, v0, n_options, game, terms, groups=groups)
    if game == "weighted_majority":
        return price_weighted_majority(source, y, v0, weights, terms, groups=groups)
    if game == "knn":
        return price_neighbours(source, y, v0, distance, n_neighbors, terms, groups=groups)
    matrix_came = is_matrix(source, given)
    if matrix_came and (groups is not None or per_sample or missing != "raise" or shrink is not None):
        raise PanelError(
            "groups=, per_sample=, missing= and shrink= need samples; a matrix came. Give errors (sample, "
            "specialist)."
        )
    if game in _PRECISION:
        link = Link.read(game, v0, prior_variance)
        return price_precision(
            source, link, shift, shrink, terms, from_matrix=matrix_came, groups=groups,
            exact=exact, n_permutations=n_permutations, n_bootstrap=n_bootstrap, seed=seed,
        )  # fmt: skip
    if game == "fixed_weights":
        return price_fixed_weights(source, v0, weights, terms, from_matrix=matrix_came, groups=groups)
    if matrix_came:
        return price_from_matrix(source, v0, terms, baseline=baseline, clusters=clusters, split=split)
    return price_from_errors(
        source, v0, terms, baseline=baseline, clusters=clusters, split=split, groups=groups, missing=missing
    )


def _refuse_idle(game: str, **options: Any) -> None:
    """Refuse options that the game would not look at."""
    uses = _USES[game]
    stray = [
        name
        for name, value in options.items()
        if name not in uses and value is not None and value is not _DEFAULTS.get(name)
        and not (name in _DEFAULTS and value == _DEFAULTS[name])
    ]  # fmt: skip
    if not stray and (options["fuse"] is None) == (game == "fuse"):
        stray = ["fuse"]
    if not stray:
        return
    given = ", ".join(f"{name}=" for name in stray)
    if "fuse" in stray:
        raise PanelError(
            f"fuse= and game='fuse' belong together; got game={game!r} and fuse={options['fuse']!r}."
        )
    if {"baseline", "clusters"} & set(stray):
        raise PanelError(
            f"baseline= and clusters= belong to the mean game; got game={game!r}. For copies under another "
            "rule, let fuse= join the members of a cluster."
        )
    if game == "mean" and {"y", "n_options", "loss"} & set(stray):
        raise PanelError(
            "the mean game prices errors, answer minus truth, or their second moment; y=, n_options= and "
            "loss= belong to the other games. panel_errors(panel, y, kind=...) makes errors."
        )
    users = sorted({name for name, used in _USES.items() if set(stray) <= used})
    hint = (
        f"It belongs to game={', '.join(map(repr, users))}." if users else "They belong to different games."
    )
    raise PanelError(f"game={game!r} makes no use of {given} Leave it out. {hint}")
