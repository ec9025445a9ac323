"""An audit as plain data, for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from estimators.audit import PanelAudit


def audit_to_dict(audit: PanelAudit) -> dict[str, Any]:
    """Give a fitted audit as dicts, lists, numbers and text.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.

    Returns
    -------
    dict
        Not-finite numbers are None, so that ``json.dumps(..., allow_nan=False)`` works.
    """
    rho, prices, number = audit.error_correlation_, audit.prices_, audit.effective_number_
    scores = audit.scores_
    data = {
        "task": audit.task_,
        "n_samples": audit.n_samples_,
        "specialists": [
            {
                "name": name,
                "score": scores.loc[name, "score"],
                "se": scores.loc[name, "se"],
                "answered": scores.loc[name, "answered"],
                "price": prices.value[i],
                "price_se": None if prices.se is None else prices.se[i],
            }
            for i, name in enumerate(audit.names_)
        ],
        "error_correlation": {
            "matrix": rho.value,
            "mean": rho.rho_mean,
            "mean_interval": rho.rho_mean_ci,
            "pooled": rho.rho_pooled,
        },
        "effective_number": {"value": number.value, "interval": number.ci, "all": dict(number.all)},
        "variance": {
            "panel": audit.variance_.value,
            "mean_specialist": audit.variance_.mean_variance,
            "ratio_to_independent": audit.variance_.ratio,
            "one_plus_m_minus_1_rho": 1 + (len(audit.names_) - 1) * rho.rho_mean,
        },
        "prices": {
            "game": prices.game,
            "rule": prices.rule,
            "v0": float(np.mean(prices.v0)),
            "total": prices.total,
            "sum": float(prices.value.sum()),
            "exact": prices.exact,
        },
        "clones": [list(group) for group in audit.clones_.clusters],
        "leaderboard": [{"rule": rule, **row.to_dict()} for rule, row in audit.leaderboard_.iterrows()],
        "refused": dict(audit.refused_),
        "robustness": audit.robustness_.to_dict("records"),
        "deferral": audit.deferral_.to_frame()[["threshold", "coverage", "risk"]]
        .iloc[_spread(len(audit.deferral_.coverage))]
        .to_dict("records"),
        "drift": None
        if audit.drift_ is None
        else {
            "start": audit.drift_.start,
            "stop": audit.drift_.stop,
            "score": dict(zip(audit.names_, audit.drift_.score.T, strict=True)),
            "recommended": audit.drift_.fused,
            "error_correlation": audit.drift_.rho,
            "tests": audit.drift_.tests.reset_index().to_dict("records"),
        },
        "bounds": {
            name: {
                "upper": bound.value,
                "lower": bound.lower,
                "method": bound.method,
                "assume": bound.assume,
                "exact": bound.exact,
            }
            for name, bound in audit.bounds_.items()
        },
        "recommended": audit.recommended_name_,
        "reasons": list(audit.reasons_),
        "findings": list(audit.findings_),
        "warnings": list(audit.warnings_),
    }
    return _plain(data)


def _spread(n_points: int, most: int = 201) -> Any:
    return np.unique(np.linspace(0, n_points - 1, min(n_points, most)).round().astype(int))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
