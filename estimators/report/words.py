"""What rules, lies and figures are called in a report, for readers who know none of them."""

from __future__ import annotations

import re

_RULES = {
    "best_single": "the one specialist with the best record so far, alone",
    "plurality_vote": "one specialist, one vote; most votes win",
    "mean": "the plain average",
    "linear_pool": "the plain average",
    "log_pool": "the geometric average of probabilities: whoever is sure counts more",
    "median": "the middle answer; half of the panel may lie before it goes astray",
    "trimmed_mean": "the average without the {0} highest and {0} lowest answers",
    "geometric_median": "the point nearest to all answers; a minority of liars cannot drag it far",
    "krum": "the answer whose neighbours are nearest; built to survive {0} liar{s}",
    "multi_krum": "the average of the answers nearest to their neighbours; built to survive {0} liar{s}",
    "top": "the {0} specialists with the best record, counted equally",
    "accuracy": "votes weighted by each specialist's record",
    "log_odds": "votes weighted by the log odds of each specialist's record",
    "inverse_mse": "an average weighted by each specialist's precision",
    "covariance": "an average weighted by who errs how much, and with whom",
    "arbiter": "a small model that learned from the panel whom to believe, and when",
}
_LIES = {
    "runner_up": "all liars back the wrong option that honest specialists like most",
    "constant": "liars always give the same answer",
    "shuffle": "liars give their own answers, but to other samples",
    "silent": "liars say nothing",
    "shift": "liars say what the honest ones do, plus ten standard deviations",
    "mirror": "liars give the truth's mirror image",
}
_TASKS = {
    "labels": "answers are labels: each specialist picks one option per sample",
    "probabilities": "answers are probabilities: each specialist spreads 100 % over the options",
    "numbers": "answers are numbers",
}
_LOSSES = {
    "labels": "the error rate of a plurality vote",
    "probabilities": "the Brier score of the average probabilities",
    "numbers": "the squared error of the average answer",
}
GLOSSARY = (
    ("specialist", "whoever answers: a model, a person, a sensor. Together they are the panel."),
    ("fusion rule", "how the answers of a panel become one answer."),
    (
        "out of fold",
        "the samples are split in parts; a rule learns on all parts but one and answers that one, so no rule is "
        "judged on samples that it learned from.",
    ),
    (
        "error correlation (rho)",
        "whether two specialists err on the same samples: 1 means always together, 0 means independently. The "
        "lower it is, the more a panel gains over its members.",
    ),
    (
        "effective number",
        "how many specialists with independent errors would be as good as this panel's average.",
    ),
    (
        "price",
        "what a specialist's answers are worth to the panel: the loss it removes, averaged over all orders in "
        "which the panel could have been put together (Shapley value). Below zero: it does harm.",
    ),
    (
        "doubt",
        "how far the fused answer is from being sure; of numbers, how far apart the specialists are. Samples of "
        "much doubt can be handed to someone else.",
    ),
    ("95 % interval", "what the figure could have been with other samples of the same kind."),
    ("paired", "both rules are compared on the same samples, one by one, so luck in the samples cancels."),
)


def rule_words(name: str) -> str:
    """Say in plain words what a fusion rule does.

    Parameters
    ----------
    name : str
        As :func:`estimators.fusions.fusion_name` gives it.

    Returns
    -------
    str
        Empty for rules of the user's own.

    Examples
    --------
    >>> rule_words("trimmed_mean(2)")
    'the average without the 2 highest and 2 lowest answers'
    >>> rule_words("my_rule")
    ''
    """
    found = re.fullmatch(r"(top)_(\d+)|(\w+?)(?:\((\d+)\))?", name)
    if found is None:
        return ""
    rule, number = (found[1], found[2]) if found[1] else (found[3], found[4] or "some")
    return _RULES.get(rule, "").format(number, s="" if number == "1" else "s")


def lie_words(name: str) -> str:
    """Say in plain words what a lie is; empty if it is unknown."""
    return _LIES.get(name, "")


def task_words(task: str) -> str:
    """Say in plain words what the answers are."""
    return _TASKS[task]


def loss_words(task: str) -> str:
    """Say which loss the prices share out."""
    return _LOSSES[task]


def risk_words(task: str) -> str:
    """Name what is wrong among the answered."""
    return "squared error (1 = that of the mean)" if task == "numbers" else "wrong among them"


def unit_words(task: str) -> str:
    """Name the score."""
    return "R2" if task == "numbers" else "accuracy"
