"""The one entry to prices: it reads what came, picks the game, and reports how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._backends import refuse_other_samples
from theory._checks import check_choice, check_level, is_matrix
from theory._exceptions import PanelError
from theory.pricing._semivalues import check_rule
from theory.pricing._sources import (
    price_callable,
    price_from_errors,
    price_from_matrix,
    price_fused,
    price_votes,
)
from theory.pricing._terms import Terms, read_v0_needed
from theory.pricing.baseline import Baseline
from theory.pricing.result import Prices

Floats = NDArray[np.float64]


def price(
    source: Any,
    *,
    v0: float | ArrayLike | Literal["chance"] | None = None,
    rule: Literal["shapley", "banzhaf", "leave_one_out", "solo", "beta"] = "shapley",
    beta: tuple[float, float] | None = None,
    game: Literal["auto", "mean", "majority", "plurality", "fuse", "callable"] = "auto",
    y: ArrayLike | None = None,
    n_options: ArrayLike | None = None,
    fuse: Callable[[Any], Any] | None = None,
    loss: str | Callable[[Any, Any], ArrayLike] | None = None,
    quorum: int = 1,
    baseline: Baseline | None = None,
    clusters: Any = None,
    split: Literal["equal", "euler", "first"] = "equal",
    given: Literal["auto", "errors", "matrix"] = "auto",
    ci: float = 0.95,
    groups: ArrayLike | None = None,
    per_sample: bool = False,
    missing: Literal["raise", "abstain"] = "raise",
    exact: bool | None = None,
    n_permutations: int = 200,
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
        What is priced, by game. ``"mean"``: a (specialist, specialist) second moment of errors, or
        errors (sample, specialist) or (sample, specialist, output). ``"plurality"``: label codes
        (sample, specialist), -1 = abstains, with ``y``. ``"majority"``: a (sample, specialist) table
        of 1 = right, 0 = wrong, NaN = abstains. ``"fuse"``: a panel (sample, specialist, output), or
        label codes (sample, specialist), with ``y`` and ``fuse``. ``"callable"``: a function from a tuple of
        specialist indices to the loss of that coalition, with ``names``.
    v0 : float, array-like of shape (sample,) or "chance"
        Loss of the empty panel: prior variance, incumbent, chance. It shifts every price, so there
        is no default. ``"chance"`` is a uniform guess among ``n_options``, for votes and ``"fuse"``: it
        loses 1 - 1/n_options (zero-one and Brier) or ln n_options (log); a majority has 2 unless given.
    rule : {"shapley", "banzhaf", "leave_one_out", "solo", "beta"}
        The semivalue.
    beta : tuple of two floats, optional
        Parameters of ``rule="beta"``; (1, 1) is Shapley.
    game : {"auto", "mean", "majority", "plurality", "fuse", "callable"}
        What a coalition is worth; ``"auto"`` is ``"fuse"`` when ``fuse`` is given, ``"callable"`` for
        a function, else ``"mean"``.
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
    groups : array-like of shape (sample,), optional
        Samples that belong together, for standard errors.
    per_sample : bool
        Keep the prices of every sample.
    missing : {"raise", "abstain"}
        Mean game from errors: with ``"abstain"``, NaN means that a specialist plays no part in
        that sample and earns 0 there.
    exact : bool, optional
        ``"fuse"`` and ``"callable"``: True enumerates all coalitions (up to 16 specialists), False
        samples orders, None enumerates up to 12.
    n_permutations : int
        Orders to sample; each is used with its reverse.
    seed : int
        Seed of the orders.
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
        If ``v0`` is missing, the source does not fit the game, the matrix is asymmetric or
        indefinite, or options contradict each other (a quorum with a baseline, for instance).

    Notes
    -----
    The mean game and the votes are closed forms: nothing is sampled, and ``exact`` is True. Standard
    errors treat the rule as fixed. Prices from errors on fitting data are too high. Under squared
    error prices are not truthful: ``exaggeration`` says by how much it pays to lean away from the others.

    References
    ----------
    Shapley, 1953; Dubey, Neyman and Weber, *Value theory without efficiency*, 1981. We are not aware
    of an earlier publication of the closed form of the mean game.

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
    """
    check_choice("game", game, ("auto", "mean", "majority", "plurality", "fuse", "callable"))
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
    )
    if game != "mean" and (baseline is not None or clusters is not None):
        raise PanelError(
            f"baseline= and clusters= belong to the mean game; got game={game!r}. For copies under another "
            "rule, let fuse= join the members of a cluster."
        )
    if (fuse is None) != (game != "fuse"):
        raise PanelError(f"fuse= and game='fuse' belong together; got game={game!r} and fuse={fuse!r}.")
    if baseline is not None and quorum != 1:
        raise PanelError(
            f"quorum={quorum} with a baseline: the baseline always speaks, so no quorum can be missed. Leave "
            "one of them out."
        )
    idle: dict[str, Any] = {"loss": loss} if game in ("majority", "plurality") else {}
    if game == "callable":
        idle = {"loss": loss, "y": y, "n_options": n_options, "groups": groups}
    stray = [f"{key}=" for key, value in idle.items() if value is not None]
    if stray or (game == "callable" and per_sample):
        raise PanelError(
            f"game={game!r} makes no use of {', '.join(stray) or 'per_sample='}. Leave it out, or use game='fuse'."
        )
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
    if game in ("majority", "plurality"):
        return price_votes(source, y, v0, n_options, game, terms, groups=groups)
    if y is not None or n_options is not None or loss is not None:
        raise PanelError(
            "the mean game prices errors, answer minus truth, or their second moment; y=, n_options= and "
            "loss= belong to the other games. panel_errors(panel, y, kind=...) makes errors."
        )
    if is_matrix(source, given):
        if groups is not None or per_sample or missing != "raise":
            raise PanelError(
                "groups=, per_sample= and missing= need samples; a matrix came. Give errors (sample, "
                "specialist)."
            )
        return price_from_matrix(source, v0, terms, baseline=baseline, clusters=clusters, split=split)
    check_choice("missing", missing, ("raise", "abstain"))
    return price_from_errors(
        source, v0, terms, baseline=baseline, clusters=clusters, split=split, groups=groups, missing=missing
    )
