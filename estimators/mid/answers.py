"""What a trained mid fusion answers: scores, embeddings, weights, what each view says, who deviates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from estimators.mid.reading import read_all
from theory import PanelError


class MidAnswers:
    """The methods that ask the network; `BaseMidFusion` trains it."""

    fusion: Any
    module_: Any

    def _prepare(self, X: Any) -> tuple[Any, NDArray[np.bool_]]:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        inputs, mask = read_all(
            X, self._readers, empty=self.empty, missing=self.missing, tell_new_gaps=self.view_dropout == 0
        )
        device, dtype = self._place()
        self.module_.to(device, dtype)
        rows = np.arange(len(mask))
        return self._tensors(inputs, mask, None, None, rows, device, dtype), mask

    def _scores(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        import torch

        from estimators.mid.trainer import infer
        from fusion.mid import consistency_gate

        data, mask = self._prepare(X)
        if self.gate is not None and math.isfinite(self.gate_threshold_):
            score, view = self._consistency(data)
            data.mask = consistency_gate(
                torch.as_tensor(score).to(data.mask.device),
                torch.as_tensor(view).to(data.mask.device),
                data.mask,
                self.gate_threshold_,
            )
        scores = [out.scores.double().cpu().numpy() for _, out in infer(self.module_, data)]
        return np.concatenate(scores), mask

    def _consistency(self, data: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        from estimators.mid.trainer import infer

        scores, views = [], []
        for _, out in infer(self.module_, data):
            score, view = self._deviation(out)
            scores.append(score.double().cpu().numpy())
            views.append(view.cpu().numpy())
        return np.concatenate(scores), np.concatenate(views)

    def consistency_score(self, X: Any) -> NDArray[np.float64]:
        """Say how far the most deviant view of each sample is from the others.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample,), float64
            Classes: Jensen-Shannon divergence in ``[0, ln 2]``; numbers: distance in standard deviations of the
            training targets. NaN where fewer than two views are present. A cheap signal of an attack or a shift.

        Raises
        ------
        PanelError
            If the views have no heads of their own.
        """
        check_is_fitted(self)
        self._need_view_scores("consistency_score")
        return self._consistency(self._prepare(X)[0])[0]

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Give fused embeddings.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample, embedding feature), float64
            0 for samples without any view.
        """
        from estimators.mid.trainer import infer

        data, mask = self._prepare(X)
        fused = [out.fusion.fused.double().cpu().numpy() for _, out in infer(self.module_, data)]
        return np.where(mask.any(axis=1, keepdims=True), np.concatenate(fused), 0.0)

    def view_weights(self, X: Any) -> NDArray[np.float64]:
        """Say how much each view counted for each sample.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample, specialist), float64
            In the order of ``view_names_``; 0 where a view is absent.

        Raises
        ------
        PanelError
            If the operator has no such weights.
        """
        from estimators.mid.trainer import infer

        data, _ = self._prepare(X)
        weights = [out.fusion.weights for _, out in infer(self.module_, data)]
        if weights[0] is None:
            raise PanelError(
                f"fusion={self.fusion!r} has no weights per view. Use 'mean', 'gated' or 'krum'."
            )
        return np.concatenate([part.double().cpu().numpy() for part in weights])

    def set_rule(self, rule: str) -> Any:
        """Change the rule of a robust fusion after training.

        Parameters
        ----------
        rule : {"median", "trimmed_mean", "geometric_median", "krum", "mean"}
            The new rule.

        Returns
        -------
        self : object

        Raises
        ------
        PanelError
            If the fusion is not robust, or the rule is unknown.
        """
        check_is_fitted(self)
        if not hasattr(self.module_.fusion, "set_rule"):
            raise PanelError(f"fusion={self.fusion!r} has no rule to change. Use fusion='robust'.")
        self.module_.fusion.set_rule(rule)
        return self

    def save_weights(self, path: str | Path) -> None:
        """Write the network's weights to a file without pickle.

        Parameters
        ----------
        path : str or Path
            An npz file.
        """
        from estimators.mid.weights_file import write_weights

        check_is_fitted(self)
        write_weights(path, self.module_)

    def load_weights(self, path: str | Path) -> Any:
        """Read weights into the fitted network.

        Parameters
        ----------
        path : str or Path
            Of `save_weights`, or a checkpoint.

        Returns
        -------
        self : object

        Raises
        ------
        PanelError
            If the file does not fit this network.
        """
        from estimators.mid.weights_file import read_weights

        check_is_fitted(self)
        read_weights(path, self.module_)
        return self

    def _view_panel(self, X: Any) -> NDArray[np.float64]:
        from estimators.mid.trainer import infer

        check_is_fitted(self)
        self._need_view_scores("predict_views")
        data, mask = self._prepare(X)
        scores = np.concatenate(
            [out.view_scores.double().cpu().numpy() for _, out in infer(self.module_, data)]
        )
        panel = self._as_answers(scores)
        panel[~mask] = np.nan
        return panel

    def _labelled(self, panel: NDArray[np.float64], outputs: Any) -> Any:
        from xarray import DataArray

        coords: dict[str, Any] = {"specialist": list(self.view_names_)}
        if outputs is not None:
            coords["output"] = outputs
        return DataArray(panel, dims=("sample", "specialist", "output"), coords=coords)

    def _need_view_scores(self, what: str) -> None:
        if self.module_.has_view_scores:
            return
        if self.module_.fusion.reads_raw:
            raise AttributeError(
                f"{what} needs views with heads of their own; {type(self.module_.fusion).__name__} joins raw views. Use "
                "a MidFusionClassifier or MidFusionRegressor with another fusion."
            )
        raise PanelError(f"{what} needs views with heads of their own. Set aux_heads='shared' or 'own'.")
