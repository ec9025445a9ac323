"""Mid fusion of numbers behind fit and predict."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.validation import check_consistent_length

from estimators._compat import fit_context
from estimators.mid.reading import refuse_mapping
from estimators.mid.reporting import regression_report
from estimators.mid.shared import BaseMidFusion
from theory import PanelError


class MidFusionRegressor(RegressorMixin, BaseMidFusion):
    """Predict numbers from several views: an encoder per view, a fusion of embeddings, one head.

    Squared error on standardised targets; several targets at once if ``y`` has columns. See
    :class:`MidFusionClassifier` for what fusion does.

    Parameters
    ----------
    fusion : str, fusion.mid.MidOperator or callable, default "mean"
        One of :func:`fusion.mid.mid_operator_names` or ``"median"``, ``"trimmed_mean"``, ``"geometric_median"``,
        ``"krum"``; a module, of which a copy is trained; or ``(width, names) -> module``.
    fusion_params : dict, optional
        Further parameters of a named operator.
    encoders : "mlp" or dict
        Per view two layers and a LayerNorm; or view name to a module with ``out_features``, or to a fitted
        transformer, which stays as it is. Views that are not named get the default.
    views : None, list of str, or dict of str to selector
        Which views; all of a :class:`Views`, or all of X as one view.
    width : int, optional
        Features of an embedding; 32 unless given.
    param_budget : int, optional
        Most parameters; the width follows.
    head : {"linear", "mlp"}
        Behind the fused embedding.
    aux_weight : float
        Weight of the views' own losses.
    aux_heads : {"own", "shared", None}
        Who scores single views: a head per view; the head of the fused embedding (robust rules need it), which makes the
        fused number the mean of what the views say alone, R2 .69 where own heads give .89 on a sum of views; or nobody.
    view_dropout : float
        Probability that a present view is hidden in training.
    dropout : float
        In the encoders.
    balance : {None, "gblend", "ogm"}
        What keeps one view from doing all the learning.
    gate : {None, "consistency"}
        Whether to fuse again without a view that deviates more than `gate_quantile` of validation rows do.
    gate_quantile : float
        Share of validation rows on which the gate stays quiet.
    n_byzantine : int
        How many views of a sample may lie; for the robust rules (papers write f).
    max_iter : int
        Epochs.
    batch_size : int or None
        Rows of a minibatch; None for all.
    lr, weight_decay : float
        Of AdamW; matrices only are decayed. The rate goes up and down once (one cycle).
    early_stopping : bool
        Whether to hold rows back and keep the weights that did best on them.
    validation_fraction : float
        How many.
    patience : int
        Epochs without progress after which to stop.
    missing : {"abstain", "raise"}
        Whether views may be absent.
    empty : {"prior", "raise"}
        What samples without any view get: the prior of the training set, or an error.
    device : str
        ``"auto"``: a GPU if there is one.
    dtype : {"float32", "float64"}
        Of the network.
    random_state : int, RandomState or None
        Of everything drawn; torch's global generators are left alone.
    verbose : bool
        Whether to show a progress bar.
    callbacks : list of callable, optional
        Called after each epoch with a dict of ``epoch``, ``n_epochs``, ``train_loss``, ``valid_loss`` and
        ``network``; a true answer stops.
    checkpoint : str or Path, optional
        An npz file that holds the best weights so far.

    Attributes
    ----------
    module_ : torch.nn.Module
        Encoders, operator and heads.
    view_names_ : tuple of str
        The views.
    n_parameters_, n_parameters_inference_, n_iter_, best_epoch_, n_features_in_ : int
        As in the classifier.
    loss_curve_, validation_curve_ : list of float
        Per epoch, in variances of ``y``.
    gate_threshold_ : float
        As in the classifier.
    report_ : dict
        Validation R2 of each view alone, of ridge regression on all views side by side, and fused.

    Raises
    ------
    PanelError
        If views do not fit, or a present row is partly NaN.

    References
    ----------
    .. [1] Ngiam et al., Multimodal deep learning, ICML 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from estimators import Views
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 300, 2))
    >>> reg = MidFusionRegressor(width=16, random_state=0).fit(Views(a=a, b=b), a[:, 0] + b[:, 0])
    >>> bool(reg.score(Views(a=a, b=b), a[:, 0] + b[:, 0]) > 0.8)
    True
    """

    def __init__(
        self,
        fusion: Any = "mean",
        *,
        fusion_params: Any = None,
        encoders: Any = "mlp",
        views: Any = None,
        width: int | None = None,
        param_budget: int | None = None,
        head: str = "linear",
        aux_weight: float = 0.3,
        aux_heads: str | None = "own",
        view_dropout: float = 0.2,
        dropout: float = 0.1,
        balance: str | None = None,
        gate: str | None = None,
        gate_quantile: float = 0.95,
        n_byzantine: int = 1,
        max_iter: int = 120,
        batch_size: int | None = 64,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        patience: int = 25,
        missing: str = "abstain",
        empty: str = "prior",
        device: str = "auto",
        dtype: str = "float32",
        random_state: Any = None,
        verbose: bool = False,
        callbacks: Any = None,
        checkpoint: Any = None,
    ):
        self.fusion = fusion
        self.fusion_params = fusion_params
        self.encoders = encoders
        self.views = views
        self.width = width
        self.param_budget = param_budget
        self.head = head
        self.aux_weight = aux_weight
        self.aux_heads = aux_heads
        self.view_dropout = view_dropout
        self.dropout = dropout
        self.balance = balance
        self.gate = gate
        self.gate_quantile = gate_quantile
        self.n_byzantine = n_byzantine
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.missing = missing
        self.empty = empty
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks
        self.checkpoint = checkpoint

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> MidFusionRegressor:
        """Train encoders, operator and heads together.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input; a view's row of nothing but NaN is absent.
        y : array-like of shape (sample,) or (sample, output)
            Numbers.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.
        groups : array-like of shape (sample,), optional
            Rows of a group stay on one side of the validation split.

        Returns
        -------
        self : MidFusionRegressor

        Raises
        ------
        ValueError
            If ``y`` is missing or not finite.
        PanelError
            If the views do not fit.
        """
        self._fit(X, self._check_numbers(X, y, groups), sample_weight, groups)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MidFusionRegressor:
        """Train one more epoch at a constant rate; scales are fixed by the first call.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.
        y : array-like of shape (sample,) or (sample, output)
            Numbers.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : MidFusionRegressor

        Raises
        ------
        PanelError
            If ``y`` has other outputs than in the first call.
        """
        first = not hasattr(self, "module_")
        shape = np.shape(y)[1:]
        if not first and (shape[0] if shape else 1) != self._n_outputs:
            raise PanelError(f"y has {shape[0] if shape else 1} outputs; fitted with {self._n_outputs}.")
        self._partial_fit(X, self._check_numbers(X, y, None), sample_weight, first=first)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Give fused numbers.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input; a fitted view that is missing is absent everywhere.

        Returns
        -------
        ndarray of shape (sample,) or (sample, output)
            Samples without any view get the mean of the training targets.
        """
        scores, mask = self._scores(X)
        fused = np.where(mask.any(axis=1, keepdims=True), self._as_answers(scores), self._centre)
        return fused[:, 0] if self._is_flat else fused

    def predict_views(self, X: Any) -> Any:
        """Give what each view says by itself: a panel for late fusion, deliberation and theory.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.

        Returns
        -------
        DataArray of dims (sample, specialist, output)
            Numbers; NaN where a view is absent.

        Raises
        ------
        PanelError
            If the views have no heads of their own.
        """
        return self._labelled(self._view_panel(X), None)

    def _check_numbers(self, X: Any, y: Any, groups: Any) -> NDArray[np.float64]:
        refuse_mapping(X)
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(X, y, groups)
        self._is_flat = y.ndim == 1 or y.shape[1] == 1
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return y.reshape(len(y), -1)

    @property
    def _stratifies(self) -> bool:
        return False

    def _start(self, y: NDArray[Any], weight: NDArray[np.float64]) -> None:
        self._n_outputs = y.shape[1]
        self._centre = np.average(y, axis=0, weights=weight)
        spread = np.sqrt(np.average((y - self._centre) ** 2, axis=0, weights=weight))
        self._spread = np.where(spread > 0, spread, 1.0)

    def _target(self, y: NDArray[Any]) -> NDArray[Any]:
        return (y - self._centre) / self._spread

    def _deviation(self, out: Any) -> tuple[Any, Any]:
        import torch

        here = out.mask[..., None].to(out.view_scores.dtype)
        clean = torch.where(out.mask[..., None], out.view_scores, torch.zeros_like(out.view_scores))
        count = here.sum(dim=1, keepdim=True)
        others = (clean.sum(dim=1, keepdim=True) - clean) / (count - 1).clamp(min=1)
        gap = (clean - others).abs().mean(dim=-1)
        gap = torch.where(out.mask, gap, torch.full_like(gap, -1.0))
        score, view = gap.max(dim=1)
        enough = out.mask.sum(dim=1) >= 2
        return torch.where(enough, score, torch.full_like(score, torch.nan)), view

    def _as_answers(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return scores * self._spread + self._centre

    def _report(
        self, X: Any, target: Any, weight: Any, fitted: NDArray[np.intp], held: NDArray[np.intp], valid: Any
    ) -> dict[str, Any]:
        return regression_report(self, X, target, weight, fitted, held, valid)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
