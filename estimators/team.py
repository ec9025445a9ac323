"""A team of specialists without names written by hand."""

from __future__ import annotations

from typing import Any

from sklearn.utils import get_tags

from estimators.ensemble import RobustFusionClassifier
from estimators.ensemble_regressor import RobustFusionRegressor
from estimators.specialists import Specialist
from theory import PanelError


def make_fusion(*specialists: Any, **params: Any) -> RobustFusionClassifier | RobustFusionRegressor:
    """Build a fusing classifier or regressor without writing names.

    Parameters
    ----------
    *specialists : estimator or Specialist
        The team. A :class:`Specialist` with a ``name`` keeps it; the others are named after their
        model's class.
    **params : object
        Parameters of :class:`RobustFusionClassifier` or :class:`RobustFusionRegressor`.

    Returns
    -------
    RobustFusionClassifier or RobustFusionRegressor
        By the kind of the first specialist.

    Raises
    ------
    PanelError
        If nobody is given, or a name occurs twice.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> [name for name, _ in make_fusion(LogisticRegression(), GaussianNB()).estimators]
    ['logisticregression', 'gaussiannb']
    """
    if not specialists:
        raise PanelError("make_fusion needs at least one specialist.")
    names: list[str] = []
    for member in specialists:
        own = getattr(member, "name", None) if isinstance(member, Specialist) else None
        if own in names:
            raise PanelError(f"two specialists are named {own!r}. Give each its own name.")
        kind = member.kind if isinstance(member, Specialist) else type(member).__name__
        base = own or kind.lower()
        number = sum(name == base or name.startswith(f"{base}-") for name in names)
        names.append(base if number == 0 else f"{base}-{number + 1}")
    kind = get_tags(specialists[0]).estimator_type
    team = list(zip(names, specialists, strict=True))
    if kind == "regressor":
        return RobustFusionRegressor(team, **params)
    return RobustFusionClassifier(team, **params)
