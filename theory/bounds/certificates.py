"""Certificates: bounds on the error of a fused rule that hold with a stated confidence."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import check_choice, check_delta, read_weights, read_zero_one
from theory._exceptions import PanelError
from theory.bounds.result import Bound

Floats = NDArray[np.float64]
_FORMS = ("auto", "clopper_pearson", "first_order", "second_order", "cantelli")


def certificate(
    wrong: ArrayLike,
    *,
    delta: float = 0.05,
    weights: ArrayLike | None = None,
    prior: ArrayLike | None = None,
    form: Literal["auto", "clopper_pearson", "first_order", "second_order", "cantelli"] = "auto",
) -> Bound:
    """Certify the error of a fused rule, with confidence 1 - delta over the draw of independent samples.

    **One column, a rule that was fixed before these samples: it bounds the error of that rule itself, whatever the
    correlation of specialists** (Clopper-Pearson). **One column per specialist, weights chosen on these same
    samples: it bounds the error of the weighted plurality vote, ties as errors, for all weights at once**
    (PAC-Bayes, much looser). Where the weights were fixed beforehand, certify the fused rule.

    Parameters
    ----------
    wrong : array-like of shape (sample,) or (sample, specialist)
        1 where wrong, else 0. In a table, NaN marks samples that a specialist was trained on: the bound
        counts, for every pair, the samples neither was trained on.
    delta : float
        Probability that the bound fails.
    weights : array-like of shape (specialist,), optional
        Weights >= 0 of the vote, sum 1, chosen in any way on these samples; equal by default. For a table.
    prior : array-like of shape (specialist,), optional
        Positive weights, sum 1, fixed before the samples; equal by default. For a table.
    form : {"auto", "clopper_pearson", "first_order", "second_order", "cantelli"}
        ``"first_order"``: twice the mean error of the specialists; ``"second_order"``: four times the tandem
        loss (both wrong), which sees correlation; ``"cantelli"``: both moments at delta / 2 each, and the smallest of
        the three bounds they give. ``"auto"`` is ``"clopper_pearson"`` for one column, ``"cantelli"`` for a
        table.

    Returns
    -------
    Bound
        ``value`` is the upper limit. Clopper-Pearson: ``lower`` is the lower one-sided limit at the same delta.
        PAC-Bayes: ``parts`` holds the empirical and certified moments, the divergence of the weights from the
        prior, and every bound computed.

    Raises
    ------
    PanelError
        If the input holds other numbers than 0 and 1, weights are no convex weights, the prior is not positive,
        fewer than eight samples are left for a pair, or the form does not fit the input.

    Notes
    -----
    With R and T the weighted mean error and tandem loss on the samples, kl^-1(q, c) the largest p with
    kl(q||p) <= c, and n the smallest count of samples: R is at most kl^-1(R, (KL + ln(2 sqrt(n) / delta)) / n), T at
    most kl^-1(T, (2 KL + ln(2 sqrt(n) / delta)) / n), and at no further cost R is at least the smallest p with that kl.
    Cantelli's (T - R^2) / (T - R + 1/4) rises in T, and in R up to 2 T, where it equals 4 T; so its largest value over
    the certified moments is at the R nearest to 2 T.

    References
    ----------
    Clopper and Pearson, 1934; Masegosa, Lorenzen, Igel and Seldin, *Second order PAC-Bayesian bounds for the weighted
    majority vote*, 2020, theorems 2 and 8; Wu et al., *Chebyshev-Cantelli PAC-Bayes-Bennett inequality for the
    weighted majority vote*, 2021; Maurer, 2004 (n >= 8).

    Examples
    --------
    >>> round(certificate([0] * 95 + [1] * 5, delta=0.05).value, 4)
    0.1023
    >>> import numpy as np
    >>> table = (np.random.default_rng(0).random((5000, 25)) < 0.1).astype(int)
    >>> round(certificate(table).value, 2), round(certificate(table, form="first_order").value, 2)
    (0.08, 0.24)
    """
    delta = check_delta(delta)
    check_choice("form", form, _FORMS)
    shape = np.shape(wrong)
    if len(shape) not in (1, 2) or 0 in shape:
        raise PanelError(
            f"wrong must be one 0 or 1 per sample, or a (sample, specialist) table of them; got shape {shape}."
        )
    if len(shape) == 1:
        if form not in ("auto", "clopper_pearson") or weights is not None or prior is not None:
            raise PanelError(
                "weights=, prior= and PAC-Bayes forms need the (sample, specialist) table; one column is a fixed "
                "rule."
            )
        return _clopper_pearson(wrong, delta)
    if form == "clopper_pearson":
        raise PanelError(
            "form='clopper_pearson' certifies one fixed rule: fuse the answers, and pass one 0 or 1 per sample."
        )
    return _pac_bayes(wrong, delta, weights, prior, "cantelli" if form == "auto" else form)


def _clopper_pearson(wrong: ArrayLike, delta: float) -> Bound:
    table = read_zero_one(np.asarray(wrong)[:, None], "wrong")
    n, k = len(table), int(table.sum())
    from scipy.special import betaincinv

    upper = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1.0 - delta))
    lower = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, delta))
    return Bound(
        value=upper,
        lower=lower,
        method="Clopper-Pearson",
        bounds="error of the fixed fused rule",
        assume="independent samples, rule fixed before them",
        exact=False,
        parts={"observed": k / n, "delta": delta},
        n=n,
    )


def _pac_bayes(
    wrong: ArrayLike, delta: float, weights: ArrayLike | None, prior: ArrayLike | None, form: str
) -> Bound:
    raw = np.asarray(wrong, dtype=np.float64)
    seen = ~np.isnan(raw)
    table = read_zero_one(np.where(seen, raw, 0.0), "wrong")
    m = table.shape[1]
    w, start = _convex(weights, m, "weights"), _convex(prior, m, "prior")
    if (start <= 0).any():
        raise PanelError(
            "prior must be positive for every specialist: one that starts at 0 can never be given weight."
        )
    counts = np.full((m, m), float(len(table)))
    if not seen.all():
        mask = seen.astype(np.float64)
        counts = mask.T @ mask
    n1, n2 = int(counts.diagonal().min()), int(counts.min())
    if min(n1, n2) < 8:
        raise PanelError(
            f"{min(n1, n2)} samples that neither of two specialists was trained on: the bound needs 8 or more. Hold out "
            "more samples, or drop a specialist."
        )
    single = table.sum(axis=0) / counts.diagonal()
    tandem = table.T @ table / counts
    inside = w > 0
    divergence = float((w[inside] * np.log(w[inside] / start[inside])).sum())
    risk, second = float(w @ single), float(w @ tandem @ w)
    share = delta / 2.0 if form == "cantelli" else delta
    parts = {"observed_mean_error": risk, "observed_tandem": second, "kl": divergence, "delta": delta}
    bounds: dict[str, float] = {}
    least = risk
    if form != "second_order":
        room = (divergence + np.log(2.0 * np.sqrt(n1) / share)) / n1
        least, risk = 1.0 - _kl_inverse(1.0 - risk, room), _kl_inverse(risk, room)
        parts["mean_error"] = risk
        bounds["first_order"] = min(2.0 * risk, 1.0)
    if form != "first_order":
        second = _kl_inverse(second, (2.0 * divergence + np.log(2.0 * np.sqrt(n2) / share)) / n2)
        parts["tandem"] = second
        bounds["second_order"] = min(4.0 * second, 1.0)
    if form == "cantelli":
        at = float(np.clip(2.0 * second, least, max(risk, least)))
        parts["mean_error_least"] = least
        bounds["cantelli"] = (second - at**2) / (second - at + 0.25) if at < 0.5 else 1.0
    method = min(bounds, key=bounds.__getitem__)
    return Bound(
        value=bounds[method],
        lower=0.0,
        method=f"PAC-Bayes, {method.replace('_', ' ')}",
        bounds="error of the weighted vote, ties as errors",
        assume="independent samples, prior fixed before them; weights may be chosen on them",
        exact=False,
        parts={**parts, **bounds},
        n=n2 if form != "first_order" else n1,
    )


def _convex(weights: ArrayLike | None, m: int, name: str) -> Floats:
    w = read_weights(weights, m)
    if (w < 0).any():
        raise PanelError(f"{name} must be >= 0; got {float(w.min()):.4g}.")
    return np.asarray(w / w.sum())


def _kl_inverse(q: float, c: float) -> float:
    """Compute the largest p >= q with kl(q||p) <= c, by bisection to the last digit."""
    if q >= 1.0:
        return 1.0
    if q <= 0.0:
        return float(-np.expm1(-c))
    low, high = q, 1.0
    for _ in range(100):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if _kl(q, middle) > c:
            high = middle
        else:
            low = middle
    # The upper end: rounding must not make a bound too small.
    return high


def _kl(q: float, p: float) -> float:
    return float(q * np.log(q / p) + (1.0 - q) * (np.log1p(-q) - np.log1p(-p)))
