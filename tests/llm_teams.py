"""Teams of stored language models with the table that their critics see."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from estimators import Critic, DeliberativeClassifier, PrecomputedSpecialist, load_llm_panel


@cache
def panel():
    return load_llm_panel("mmlupro")


def best(n):
    """Return the columns of the n most accurate models on the whole file, as the measured facts have it."""
    return np.argsort(-panel().correct.mean(axis=0), kind="stable")[:n]


def halves(seed):
    order = np.random.default_rng(seed).permutation(len(panel().gold))
    return order[: len(order) // 2], order[len(order) // 2 :]


def table(columns):
    """Return what is known of each question: its subject, its options and how long each model talked."""
    p = panel()
    X = pd.DataFrame(
        {
            "id": np.arange(len(p.gold)),
            "n_options": p.n_options,
            "subject": p.arrays["category_name"][p.arrays["category"]],
        }
    )
    for i in columns:
        X[f"length_{i}"] = p.arrays["output_chars"][:, i]
    return X


def team(columns, answers=None):
    """Return a specialist per column; `answers` replaces what they say."""
    said = panel().answers if answers is None else answers
    members = []
    for name, i in columns:
        votes = (said[:, i, None] == np.arange(10)).astype(float)
        votes[said[:, i] < 0] = np.nan
        frame = pd.DataFrame(votes, columns=list(range(10)))
        members.append((name, PrecomputedSpecialist(frame, key="id")))
    return members


def named(columns):
    return [(f"model {i:02d}", int(i)) for i in columns]


def lengths(columns):
    return ["subject", *(f"length_{i}" for i in columns)]


def judge(columns, *, view=None, answers=None, **params):
    """Return an unfitted classifier on some columns; `view` is what its one critic sees, False for no critic."""
    critics = [] if view is False else [("critic", Critic(view=view))]
    params = {
        "n_options": "n_options",
        "cv": "prefit",
        "random_state": 0,
        "critic_cv": 2,
        "critics": critics,
    } | params
    return DeliberativeClassifier(team(named(columns), answers), **params)


def lie(clf, columns, rows, answers):
    """Replace what fitted specialists say from now on: they learned to be trusted, and then changed."""
    p = panel()
    for member, (_, i) in zip(clf._members, named(columns), strict=True):
        votes = (answers[:, i, None] == np.arange(10)).astype(float)
        votes[answers[:, i] < 0] = np.nan
        member.model_.values = votes
    assert len(rows) <= len(p.gold)
    return clf
