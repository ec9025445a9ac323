"""How competent each specialist is near a sample: rules that look at neighbours, and sources of a potential."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NEAREST = 1e-10  # distance below which a neighbour is the sample itself
_SIMILAR = 0.7  # share of equal labels above which output profiles are alike (Giacinto & Roli)
_POINTS = 20  # of the integral of the randomized reference classifier


@dataclass
class Neighbours:
    """What is known near the queries.

    Attributes
    ----------
    right : ndarray of bool, shape (query, neighbour, specialist)
        Whether the specialist was right; an absent one was not.
    proba : ndarray of shape (query, neighbour, specialist)
        What it gave to the truth.
    said : ndarray of int64, shape (query, neighbour, specialist)
        Its label; -1 where it was absent.
    truth : ndarray of int64, shape (query, neighbour)
        The label that was right.
    weight : ndarray of shape (query, neighbour)
        One over the distance.
    label : ndarray of int64, shape (query, specialist)
        What the specialists say now; -1 where they are absent.
    """

    right: NDArray[np.bool_]
    proba: Floats
    said: NDArray[np.int64]
    truth: NDArray[np.int64]
    weight: Floats
    label: NDArray[np.int64]


def inverse_distance(distance: Floats) -> Floats:
    """Weigh neighbours by one over their distance."""
    return np.asarray(1.0 / np.maximum(distance, _NEAREST))


def accuracy(near: Neighbours) -> Floats:
    """Overall local accuracy."""
    return np.asarray(near.right.mean(axis=1))


def count(near: Neighbours) -> Floats:
    """Neighbours answered rightly."""
    return near.right.sum(axis=1).astype(np.float64)


def rank(near: Neighbours) -> Floats:
    """Nearest neighbours answered rightly before the first error."""
    first = near.right.argmin(axis=1)
    return np.where(near.right.all(axis=1), near.right.shape[1], first).astype(np.float64)


def class_accuracy(near: Neighbours) -> Floats:
    """Accuracy on neighbours whose truth is what the specialist says now; 0 if there is none."""
    same = near.truth[:, :, None] == near.label[:, None, :]
    return _ratio((near.right & same).sum(axis=1), same.sum(axis=1))


def weighted_class_accuracy(near: Neighbours) -> Floats:
    """Accuracy on those neighbours, weighted by one over the distance."""
    same = (near.truth[:, :, None] == near.label[:, None, :]) * near.weight[:, :, None]
    return _ratio((near.right * same).sum(axis=1), same.sum(axis=1))


def a_priori(near: Neighbours) -> Floats:
    """Weighted mean probability of the neighbours' truth."""
    total = np.matmul(near.weight[:, None, :], near.proba)[:, 0]
    return np.asarray(total / near.weight.sum(axis=1)[:, None])


def a_posteriori(near: Neighbours) -> Floats:
    """Weighted mean probability of the truth, where it is what the specialist says now; 0 if nowhere."""
    same = (near.truth[:, :, None] == near.label[:, None, :]) * near.weight[:, :, None]
    return _ratio((near.proba * same).sum(axis=1), same.sum(axis=1))


def behaviour(near: Neighbours) -> Floats:
    """Accuracy on neighbours with a similar vector of labels; on all of them if there is none."""
    equal = (near.said == near.label[:, None, :]) & (near.label >= 0)[:, None, :]
    alike = equal.sum(axis=2) > _SIMILAR * near.label.shape[1] + 1e-9
    alike |= ~alike.any(axis=1, keepdims=True)
    right = np.matmul(alike[:, None, :].astype(np.float64), near.right.astype(np.float64))[:, 0]
    return np.asarray(right / alike.sum(axis=1)[:, None])


def double_faults(near: Neighbours) -> Floats:
    """Sum over the other specialists of neighbours that both answered wrongly."""
    wrong = (~near.right).astype(np.float64)
    # a neighbour with w wrong ones adds w - 1 to each of them: no pair is ever formed
    others = wrong.sum(axis=2, keepdims=True) - 1.0
    return np.asarray((wrong * others).sum(axis=1))


NEIGHBOUR_RULES: dict[str, Callable[[Neighbours], Floats]] = {
    "ola": accuracy,
    "rank": rank,
    "lca": class_accuracy,
    "mla": weighted_class_accuracy,
    "a_priori": a_priori,
    "a_posteriori": a_posteriori,
    "mcb": behaviour,
    "knora_e": rank,
    "knora_u": count,
    "knop": count,
    "des_p": accuracy,
    "des_knn": accuracy,
}


def exponential(proba: Floats, truth: NDArray[np.int64]) -> Floats:
    """Give 1 - 2^(1 - (C - 1) p / (1 - p)), 0 at p = 1/C."""
    p, n_classes = _own(proba, truth), proba.shape[2]
    sure = p >= 1.0
    odds = np.where(sure, 0.0, p) / np.where(sure, 1.0, 1.0 - p)
    # beyond 2^-1075 there is nothing below 1
    return np.where(sure, 1.0, 1.0 - 2.0 ** np.maximum(1.0 - (n_classes - 1) * odds, -1075.0))


def logarithmic(proba: Floats, truth: NDArray[np.int64]) -> Floats:
    """Give 2 p^(ln 2 / ln C) - 1, 0 at p = 1/C."""
    return np.asarray(2.0 * _own(proba, truth) ** (np.log(2.0) / np.log(proba.shape[2])) - 1.0)


def min_difference(proba: Floats, truth: NDArray[np.int64]) -> Floats:
    """Give p minus the largest other probability."""
    others = proba.copy()
    others[np.arange(len(truth)), :, truth] = -np.inf
    return np.asarray(_own(proba, truth) - others.max(axis=2))


def entropy(proba: Floats, truth: NDArray[np.int64]) -> Floats:
    """Give the entropy over ln C, plus 1 if right, minus 1 if wrong."""
    shares = proba / proba.sum(axis=2, keepdims=True)
    logs = np.log(np.where(shares > 0, shares, 1.0))
    right = proba.argmax(axis=2) == truth[:, None]
    return np.asarray(-(shares * logs).sum(axis=2) / np.log(proba.shape[2]) + 2.0 * right - 1.0)


def reference_classifier(proba: Floats, truth: NDArray[np.int64]) -> Floats:
    """Give the probability that a random classifier with these mean supports is right.

    Supports are drawn from Beta(C p_c, C - C p_c); the density of the truth's, times the probability that
    all others are smaller, is integrated over 20 points with the mean of both ends' probabilities.
    """
    from scipy.special import betainc

    n_classes = proba.shape[2]
    x = np.linspace(0.0, 1.0, _POINTS)
    found = np.empty(proba.shape[:2])
    rows = np.arange(len(truth))
    for i in range(proba.shape[1]):
        a = np.maximum(n_classes * np.minimum(proba[:, i], 1.0), 1e-20)
        b = np.maximum(n_classes - a, 1e-20)
        below = betainc(a[:, :, None], b[:, :, None], x)
        middle = (below[:, :, 1:] + below[:, :, :-1]) / 2.0
        middle[rows, truth] = 1.0
        found[:, i] = (np.diff(below[rows, truth], axis=1) * middle.prod(axis=1)).sum(axis=1)
    return found


SOURCES: dict[str, Callable[[Floats, NDArray[np.int64]], Floats]] = {
    "rrc": reference_classifier,
    "logarithmic": logarithmic,
    "exponential": exponential,
    "min_difference": min_difference,
    "kl": entropy,
}


def _own(proba: Floats, truth: NDArray[np.int64]) -> Floats:
    return np.asarray(proba[np.arange(len(truth)), :, truth])


def _ratio(part: NDArray[np.generic], whole: NDArray[np.generic]) -> Floats:
    some = np.asarray(whole) > 0
    return np.where(some, part / np.where(some, whole, 1.0), 0.0)
