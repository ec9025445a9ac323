"""Ask one fitted specialist, and decide what its failure means."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.specialists import Specialist
from theory import FaultWarning


def ask(specialist: Specialist, X: Any, n_outputs: int) -> tuple[NDArray[np.float64], str]:
    """Ask one fitted specialist; turn a failure into an abstention where it is declared so.

    Parameters
    ----------
    specialist : Specialist
        Fitted.
    X : array, DataFrame or Views
        Input of all specialists.
    n_outputs : int
        Width of the answer of a specialist that failed.

    Returns
    -------
    answers : ndarray of shape (sample, output)
    absent : ndarray of bool, shape (sample,)
        Declared absence. Rows elsewhere that are not finite are faults.
    failure : str
        Empty, or the text of the exception behind a whole column of abstentions.

    Raises
    ------
    Exception
        The specialist's own, with a note that names it, where ``on_error="raise"``.
    """
    try:
        answers, absent, note = specialist.tell(X)
    except Exception as error:
        if specialist.on_error == "abstain":
            warnings.warn(
                f"specialist {specialist.name!r} failed and abstains: {type(error).__name__}: {error}",
                FaultWarning,
                stacklevel=2,
            )
            n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
            nothing = np.full((n_samples, n_outputs), np.nan)
            return nothing, np.ones(n_samples, dtype=bool), f"{type(error).__name__}: {error}"[:500]
        error.add_note(
            f"raised by specialist {specialist.name!r} in {specialist.answer_method_}. "
            "Set on_error='abstain' to go on without it."
        )
        raise
    if specialist.on_error == "abstain":
        broken = ~np.isfinite(answers).all(axis=1)
        n_broken = int((broken & ~absent).sum())
        if n_broken:
            note = f"{n_broken} of {len(answers)} answers are not finite; they count as abstentions."
        absent |= broken
        answers = np.where(absent[:, None], np.nan, answers)
    if note:
        warnings.warn(f"specialist {specialist.name!r}: {note}", FaultWarning, stacklevel=2)
    return answers, absent, ""
