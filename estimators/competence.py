"""How competent each specialist is near a sample: rules that look at neighbours, and sources of a potential."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NEAREST = 1e-10  # distance below which a neighbour is the sample itself
_POINTS = 20  # of the integral of the randomized reference classifier


@dataclass
class Neighbours:
    """What is known near the queries, one neighbour of all queries at a time.

    Rows are taken by ``take``, which needs a quarter of the time of an index.

    Attributes
    ----------
    hits : ndarray of uint8, shape (row, specialist)
        1 where the specialist was right; an absent one was not.
    proba : ndarray of shape (row, specialist)
        What it gave to the truth.
    truth : ndarray of int, shape (row, specialist)
        The label that was right, once for each specialist: whole rows are compared faster than spread.
    rows : ndarray of int64, shape (query, neighbour)
        Which rows are near, nearest first.
    weight : ndarray of shape (query, neighbour)
        One over the distance.
    label : ndarray of int, shape (query, specialist)
        What the specialists say now; -1 where they are absent.
    """

    hits: NDArray[np.uint8]
    proba: Floats
    truth: NDArray[np.integer]
    rows: NDArray[np.int64]
    weight: Floats
    label: NDArray[np.integer]

    @property
    def n_neighbours(self) -> int:
        """Number of neighbours."""
        return int(self.rows.shape[1])

    def right(self, t: int) -> NDArray[np.uint8]:
        """Who was right on the neighbour number t."""
        return self.hits.take(self.rows[:, t], axis=0)

    def given(self, t: int) -> Floats:
        """Give what everybody gave to the truth of the neighbour number t."""
        return self.proba.take(self.rows[:, t], axis=0)

    def same(self, t: int) -> NDArray[np.uint8]:
        """Whose label now is the truth of the neighbour number t."""
        return (self.truth.take(self.rows[:, t], axis=0) == self.label).view(np.uint8)

    def counter(self) -> NDArray[np.integer]:
        """Zeros (query, specialist) of the narrowest type that can count neighbours: it adds fastest."""
        return np.zeros(self.label.shape, dtype=np.uint8 if self.n_neighbours < 256 else np.int64)


def inverse_distance(distance: Floats) -> Floats:
    """Weigh neighbours by one over their distance."""
    return np.asarray(1.0 / np.maximum(distance, _NEAREST))


def accuracy(near: Neighbours) -> Floats:
    """Overall local accuracy."""
    total = near.counter()
    for t in range(near.n_neighbours):
        total += near.right(t)
    return total / near.n_neighbours


def class_accuracy(near: Neighbours) -> Floats:
    """Accuracy on neighbours whose truth is what the specialist says now; 0 if there is none."""
    part, whole = near.counter(), near.counter()
    for t in range(near.n_neighbours):
        same = near.same(t)
        whole += same
        part += same & near.right(t)
    return _ratio(part, whole)


def weighted_class_accuracy(near: Neighbours) -> Floats:
    """Accuracy on those neighbours, weighted by one over the distance."""
    part, whole = np.zeros(near.label.shape), np.zeros(near.label.shape)
    for t in range(near.n_neighbours):
        same = near.same(t) * near.weight[:, t, None]
        whole += same
        part += same * near.right(t)
    return _ratio(part, whole)


def a_priori(near: Neighbours) -> Floats:
    """Weighted mean probability of the neighbours' truth."""
    total = np.zeros(near.label.shape)
    for t in range(near.n_neighbours):
        total += near.given(t) * near.weight[:, t, None]
    return np.asarray(total / near.weight.sum(axis=1)[:, None])


def a_posteriori(near: Neighbours) -> Floats:
    """Weighted mean probability of the truth, where it is what the specialist says now; 0 if nowhere."""
    part, whole = np.zeros(near.label.shape), np.zeros(near.label.shape)
    for t in range(near.n_neighbours):
        same = near.same(t) * near.weight[:, t, None]
        whole += same
        part += same * near.given(t)
    return _ratio(part, whole)


def double_faults(near: Neighbours) -> Floats:
    """Sum over the other specialists of neighbours that both answered wrongly."""
    total = np.zeros(near.label.shape)
    for t in range(near.n_neighbours):
        wrong = 1 - near.right(t)
        # a neighbour with w wrong ones adds w - 1 to each of them: no pair is ever formed
        total += wrong * (np.count_nonzero(wrong, axis=1)[:, None] - 1.0)
    return total


NEIGHBOUR_RULES: dict[str, Callable[[Neighbours], Floats]] = {
    "lca": class_accuracy,
    "mla": weighted_class_accuracy,
    "a_priori": a_priori,
    "a_posteriori": a_posteriori,
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
    total = proba.sum(axis=2, keepdims=True)
    shares = proba / np.where(total > 0, total, 1.0)
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


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    # a part of nothing is 0
    return np.asarray(part / (whole + (whole == 0)), dtype=np.float64)
