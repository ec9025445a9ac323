"""How far a fit has come: a bar on the terminal and scikit-learn's callbacks."""

from __future__ import annotations

from typing import Any


class FitProgress:
    """Report each finished fit of a specialist, on all samples or on one fold.

    Parameters
    ----------
    ensemble : estimator
        With scikit-learn's ``CallbackSupportMixin``.
    names : list of str
        Names of the specialists.
    n_folds : int
        Folds that each is asked about.
    X, y : array-like
        What is fitted, for callbacks that want it.
    verbose : bool
        Whether to show a bar.

    Notes
    -----
    The tree of tasks is fit -> specialist -> fit on all samples (task 0) and folds (task 1, 2, ...).
    Specialists may be fitted in other processes; their own callbacks are not joined to the tree.
    """

    def __init__(self, ensemble: Any, names: list[str], n_folds: int, *, X: Any, y: Any, verbose: bool):
        from tqdm.auto import tqdm

        self._ensemble, self._given = ensemble, {"X": X, "y": y}
        self._names, self._n_tasks = names, 1 + n_folds
        self._finished = [0] * len(names)
        self._bar = tqdm(
            total=len(names) * self._n_tasks, desc="fits of specialists", disable=not verbose, leave=False
        )
        self._root = ensemble._init_callback_context(max_subtasks=len(names), sequential_subtasks=False)
        self._root.call_on_fit_task_begin(estimator=ensemble, **self._given)
        self._contexts = [
            self._root.subcontext(
                task_name=name, task_id=i, max_subtasks=self._n_tasks, sequential_subtasks=False
            ).call_on_fit_task_begin(estimator=ensemble, **self._given)
            for i, name in enumerate(names)
        ]

    def done(self, specialist: int, fold: int | None = None) -> None:
        """Report that a specialist was fitted: on all samples, or for one fold."""
        task = 0 if fold is None else 1 + fold
        self._bar.set_postfix_str(self._names[specialist])
        self._bar.update()
        context = self._contexts[specialist]
        name = "all samples" if fold is None else f"fold {fold}"
        leaf = context.subcontext(task_name=name, task_id=task)
        leaf.call_on_fit_task_begin(estimator=self._ensemble, **self._given)
        leaf.call_on_fit_task_end(estimator=self._ensemble, **self._given)
        self._finished[specialist] += 1
        if self._finished[specialist] == self._n_tasks:
            context.call_on_fit_task_end(estimator=self._ensemble, **self._given)

    def end(self) -> None:
        """Report that everything is fitted."""
        self._bar.close()
        self._root.call_on_fit_task_end(estimator=self._ensemble, **self._given)
