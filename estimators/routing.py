"""Metadata on its way through an ensemble: to specialists what they ask for, groups to the splitter."""

from __future__ import annotations

from typing import Any

from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from estimators._compat import raise_for_params, routing_enabled
from estimators.specialists import Specialist


def fit_router(ensemble: Any, members: list[tuple[str, Any]]) -> MetadataRouter:
    """Say who may be handed what in ``fit``.

    Parameters
    ----------
    ensemble : estimator
        The ensemble; it uses ``sample_weight`` and ``groups`` itself.
    members : list of (str, estimator)
        The team without those dropped.

    Returns
    -------
    sklearn.utils.metadata_routing.MetadataRouter
    """
    router = MetadataRouter(owner=ensemble).add_self_request(ensemble)
    for name, member in members:
        router.add(**{name: member}, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
    if hasattr(ensemble.cv, "split"):
        router.add(splitter=ensemble.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
    return router


def refuse_unrouted(ensemble: Any, params: dict[str, Any]) -> None:
    """Refuse metadata that nobody can ask for, because routing is off.

    Parameters
    ----------
    ensemble : estimator
        The ensemble.
    params : dict
        What was given to ``fit`` beside weights and groups.

    Raises
    ------
    ValueError
        If there is any and routing is off.
    """
    if not routing_enabled():
        raise_for_params(params, ensemble, "fit")


def route_fit(
    ensemble: Any,
    team: list[tuple[str, Specialist]],
    *,
    sample_weight: Any,
    groups: Any,
    params: dict[str, Any],
) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Find out what each specialist and the splitter asked for.

    Parameters
    ----------
    ensemble : estimator
        The ensemble.
    team : list of (str, Specialist)
        Fresh ones; ``use_weights`` is switched off for those that did not ask for weights.
    sample_weight, groups : array-like or None
        As given to ``fit``.
    params : dict
        What else was given to ``fit``.

    Returns
    -------
    groups : array-like or None
        Groups for the splitter.
    metadata : dict
        By name of the specialist, what it asked for in ``fit`` beside weights.

    Raises
    ------
    ValueError
        If routing is on and there is something that nobody was told to take or leave.
    """
    if not routing_enabled():
        return groups, {}
    given = {"sample_weight": sample_weight, "groups": groups} | params
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        return groups, {}
    routed = process_routing(ensemble, "fit", **given)
    metadata = {}
    for name, specialist in team:
        asked = dict(routed[name].fit)
        if asked.pop("sample_weight", None) is None:
            specialist.set_params(use_weights=False)
        metadata[name] = asked
    groups = routed["splitter"].split.get("groups", groups) if "splitter" in routed else groups
    return groups, metadata
