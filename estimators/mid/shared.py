"""What the mid fusion classifier and regressor have in common: read, split, size, train, score."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from estimators._compat import HasMethods, Interval, StrOptions, check_sample_weight, validate_data
from estimators.columns import take_rows
from estimators.mid.answers import MidAnswers
from estimators.mid.reading import ViewReader, fit_reader, read_all, read_raw, refuse_mapping, view_selectors
from estimators.mid.splitting import validation_split
from estimators.views import Views
from theory import PanelError

_HEADED = ("view_transformer", "cross_attention", "bottleneck", "stream_attention")
_DEFAULT_WIDTH = 32


class BaseMidFusion(ClassNamePrefixFeaturesOutMixin, TransformerMixin, MidAnswers, BaseEstimator):
    """Encode views, fuse embeddings, score; see the classifier."""

    _parameter_constraints: dict = {  # noqa: RUF012
        "fusion": [str, callable, HasMethods("forward")],
        "fusion_params": [dict, None],
        "encoders": [StrOptions({"mlp"}), dict],
        "views": [dict, list, tuple, None],
        "width": [Interval(Integral, 1, None, closed="left"), None],
        "param_budget": [Interval(Integral, 1, None, closed="left"), None],
        "head": [StrOptions({"linear", "mlp"})],
        "aux_weight": [Interval(Real, 0, None, closed="left")],
        "aux_heads": [StrOptions({"shared", "own"}), None],
        "view_dropout": [Interval(Real, 0, 1, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "balance": [StrOptions({"gblend", "ogm"}), None],
        "gate": [StrOptions({"consistency"}), None],
        "gate_quantile": [Interval(Real, 0, 1, closed="neither")],
        "n_byzantine": [Interval(Integral, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "missing": [StrOptions({"abstain", "raise"})],
        "empty": [StrOptions({"prior", "raise"})],
        "device": [str],
        "dtype": [StrOptions({"float32", "float64"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "callbacks": [list, tuple, None],
        "checkpoint": [str, Path, None],
    }

    # --- fitting -----------------------------------------------------------------------------------------------

    def _fit(self, X: Any, y: NDArray[Any], sample_weight: Any, groups: Any) -> None:
        from estimators.mid.trainer import few_threads, seeded, train

        X = self._check_input(X, reset=True)
        weight = self._read_weight(sample_weight, X, len(y))
        if self._class_weight(y) is not None:
            weight = weight * self._class_weight(y)
        kept = np.flatnonzero(weight > 0)
        if len(kept) < len(y):  # rows without weight must not move a scale or a split
            X, y, weight = take_rows(X, kept), y[kept], weight[kept]
            groups = None if groups is None else np.asarray(groups)[kept]
        if len(y) < 2:
            raise ValueError(f"n_samples={len(y)}; at least 2 samples are needed.")
        seed = self._seed = self._draw_seed()
        fitted, held = validation_split(
            y if self._stratifies else None,
            len(y),
            groups=groups,
            fraction=self.validation_fraction if self.early_stopping else 0.0,
            seed=seed,
        )
        self._start(y, weight)
        self._read_training(X, fitted, weight)
        inputs, mask = read_all(X, self._readers, empty=self.empty, missing=self.missing, tell_new_gaps=False)
        self.view_names_ = tuple(reader.name for reader in self._readers)
        target = self._target(y)
        usable = mask.any(axis=1)
        device, dtype = self._place()
        with seeded(seed, device):
            self.module_ = self._build().to(device, dtype)
            parts = [
                self._tensors(inputs, mask, target, weight, rows[usable[rows]], device, dtype)
                for rows in (fitted, held)
            ]
            valid = parts[1] if len(parts[1]) else None
            if not len(parts[0]):
                raise PanelError("no training row has a view. There is nothing to learn from.")
            with few_threads(self.module_):
                history = train(self.module_, parts[0], valid, self._settings(), seed=seed)
        self.loss_curve_, self.validation_curve_ = history.train, history.valid
        self.n_iter_, self.best_epoch_ = len(history.train), history.best_epoch
        self._optimizer = None
        self._count()
        self.gate_threshold_ = self._threshold(valid)
        rows = held[usable[held]] if valid is not None else np.zeros(0, dtype=int)
        self.report_ = self._report(X, target, weight, fitted[usable[fitted]], rows, valid)

    def _read_weight(self, sample_weight: Any, X: Any, n_samples: int) -> NDArray[np.float64]:
        if sample_weight is None:
            return np.ones(n_samples)
        return np.asarray(check_sample_weight(sample_weight, X, ensure_non_negative=True), dtype=np.float64)

    def _read_training(self, X: Any, rows: NDArray[np.intp], weight: NDArray[np.float64]) -> None:
        given = self.encoders if isinstance(self.encoders, Mapping) else {}
        selectors = view_selectors(X, self.views)
        stray = [name for name in given if name not in selectors]
        if stray:
            raise PanelError(
                f"encoders name {stray[0]!r}, which is no view; there are {', '.join(selectors)}."
            )
        self._readers: list[ViewReader] = []
        for name, selector in selectors.items():
            own = given.get(name)
            transformer = own if own is not None and hasattr(own, "transform") else None
            raw, present = read_raw(X, name, selector, transformer)
            part = raw[rows]
            self._readers.append(
                fit_reader(
                    name, selector, part, present[rows], transformer=transformer, sample_weight=weight[rows]
                )
            )

    def _build(self) -> Any:
        from estimators.mid.network import NetworkPlan
        from fusion.mid import fit_width

        named = isinstance(self.fusion, str)
        params = dict(self.fusion_params or {})
        if named and self.fusion in ("robust", "median", "trimmed_mean", "geometric_median", "krum"):
            params.setdefault("n_byzantine", self.n_byzantine)
        self._plan = NetworkPlan(
            self.fusion,
            params,
            self.encoders,
            self.head,
            self.aux_heads,
            self.dropout,
            self._n_outputs,
            tuple(self._readers),
        )
        if self.width is not None and self.param_budget is not None:
            raise ValueError("width and param_budget say the same twice. Give one of them.")
        if self.param_budget is None:
            own = getattr(self.fusion, "width", None) if not named else None
            if own is not None and self.width not in (None, own):
                raise PanelError(
                    f"the fusion given has width {own}; width={self.width}. Leave one of them out."
                )
            self._size = {"width": self.width or own or _DEFAULT_WIDTH}
            return self._plan.build(**self._size)
        multiple = params.get("n_heads", 4) if named and self.fusion in _HEADED else 1
        plain = isinstance(self.encoders, str) and self.fusion not in ("stream_attention", "monolith")
        label = f"{self.fusion if named else 'network'!r} on {len(self._readers)} views"
        network, chosen = fit_width(
            self._plan.build,
            self.param_budget,
            multiple=multiple,
            second="hidden" if plain else None,
            label=label,
        )
        self._size = {key: value for key, value in chosen.items() if key != "parameters"}
        return network

    def _tensors(
        self,
        inputs: Any,
        mask: NDArray[np.bool_],
        target: Any,
        weight: Any,
        rows: NDArray[np.intp],
        device: Any,
        dtype: Any,
    ) -> Any:
        from estimators.mid.reading import ViewInput
        from estimators.mid.trainer import to_batch

        cut = [
            ViewInput(part.values[rows], None if part.padding is None else part.padding[rows])
            for part in inputs
        ]
        return to_batch(
            cut,
            mask[rows],
            None if target is None else target[rows],
            None if weight is None else weight[rows],
            device=device,
            dtype=dtype,
        )

    def _settings(self, **changes: Any) -> Any:
        from estimators.mid.trainer import Settings

        return Settings(
            **{
                "aux_weight": self.aux_weight,
                "view_dropout": self.view_dropout,
                "balance": self.balance,
                "max_iter": self.max_iter,
                "batch_size": self.batch_size,
                "lr": self.lr,
                "weight_decay": self.weight_decay,
                "patience": self.patience,
                "verbose": bool(self.verbose),
                "callbacks": tuple(self.callbacks or ()),
                "checkpoint": self.checkpoint,
                **changes,
            }
        )

    def _partial_fit(self, X: Any, y: NDArray[Any], sample_weight: Any, *, first: bool) -> None:
        from estimators.mid.trainer import adamw, few_threads, seeded, train

        X = self._check_input(X, reset=first)
        weight = self._read_weight(sample_weight, X, len(y))
        if first:
            self._seed = self._draw_seed()
            self._start(y, weight)
            self._read_training(X, np.arange(len(y)), weight)
            self.view_names_ = tuple(reader.name for reader in self._readers)
            self.loss_curve_, self.validation_curve_, self.n_iter_, self.best_epoch_ = [], [], 0, 0
            self.gate_threshold_, self.report_, self._optimizer = math.inf, {}, None
        device, dtype = self._place()
        inputs, mask = read_all(X, self._readers, empty=self.empty, missing=self.missing, tell_new_gaps=False)
        rows = np.flatnonzero((weight > 0) & mask.any(axis=1))
        if not len(rows):
            raise PanelError("no row has a view and a weight. There is nothing to learn from.")
        with seeded(self._seed + self.n_iter_, device):
            if first:
                self.module_ = self._build().to(device, dtype)
                self._count()
            settings = self._settings(max_iter=1, constant_lr=True)
            if self._optimizer is None:
                self._optimizer = adamw(self.module_, settings)
            data = self._tensors(inputs, mask, self._target(y), weight, rows, device, dtype)
            with few_threads(self.module_):
                history = train(
                    self.module_,
                    data,
                    None,
                    settings,
                    seed=self._seed + self.n_iter_,
                    optimizer=self._optimizer,
                )
        self.loss_curve_ += history.train
        self.n_iter_ += 1

    @property
    def _n_features_out(self) -> int:
        return int(self.module_.fusion.out_features)

    def _count(self) -> None:
        from fusion.mid import param_count

        counted = param_count(self.module_)
        self.n_parameters_ = counted["total"]
        self.n_parameters_inference_ = counted["total"] - counted["auxiliary"]

    def _threshold(self, valid: Any) -> float:
        """Give the consistency score that few validation rows exceed; infinite if there are too few rows."""
        if valid is None or not self.module_.has_view_scores:
            return math.inf
        score, _ = self._consistency(valid)
        score = np.sort(score[np.isfinite(score)])
        place = math.ceil((len(score) + 1) * self.gate_quantile)
        return float(score[place - 1]) if 1 <= place <= len(score) else math.inf

    # --- odds and ends -----------------------------------------------------------------------------------------

    def _check_input(self, X: Any, *, reset: bool) -> Any:
        if isinstance(X, Views):
            if reset:
                self.n_features_in_ = X.shape[1]
            return X
        refuse_mapping(X)
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        if hasattr(X, "tocsr"):
            X = X.tocsr()
        if len(X.shape) not in (2, 3) or (len(X.shape) == 3 and self.views is not None):
            raise ValueError(
                f"Expected 2D array, got {len(X.shape)}D array instead. Reshape your data with "
                "array.reshape(-1, 1) (one feature) or array.reshape(1, -1) (one sample)."
            )
        if len(X.shape) == 2:
            # One view holds no absences that could mean anything: NaN is refused as by any estimator.
            if self.views is None:
                return validate_data(self, X, reset=reset, accept_sparse="csr", dtype=np.float64)
            validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _place(self) -> tuple[Any, Any]:
        import torch

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise PanelError(
                f"device={name!r} is not there ({str(error).splitlines()[0]}). Use 'auto' or 'cpu'."
            ) from error
        return device, torch.float64 if self.dtype == "float64" else torch.float32

    def _draw_seed(self) -> int:
        state = self.random_state
        if state is None:
            return int(np.random.default_rng().integers(2**31))
        if isinstance(state, Integral):
            return int(state)
        return int(state.randint(2**31 - 1))

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "module_" in state:
            from estimators.mid.weights_file import state_arrays

            state["_arrays"] = state_arrays(state.pop("module_"))
            state["_rule"] = getattr(self.module_.fusion, "rule", None)
            state["_optimizer"] = None
            if self._optimizer is not None:  # training in parts must go on as if nothing had happened
                moments = self._optimizer.state_dict()["state"]
                state["_moments"] = {
                    i: {k: v.cpu().numpy() for k, v in part.items()} for i, part in moments.items()
                }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        arrays, rule = state.pop("_arrays", None), state.pop("_rule", None)
        moments = state.pop("_moments", None)
        super().__setstate__(state)
        if arrays is not None:
            import torch

            from estimators.mid.weights_file import load_arrays

            with torch.random.fork_rng(devices=[]):
                self.module_ = self._plan.build(**self._size)
            self.module_.to(torch.float64 if self.dtype == "float64" else torch.float32)
            load_arrays(self.module_, arrays)
            if rule is not None:
                self.module_.fusion.set_rule(rule)
            self.module_.eval()
        if moments is not None:
            from estimators.mid.trainer import adamw

            self._optimizer = adamw(self.module_, self._settings())
            fresh = self._optimizer.state_dict()
            fresh["state"] = {
                i: {k: torch.as_tensor(v) for k, v in part.items()} for i, part in moments.items()
            }
            self._optimizer.load_state_dict(fresh)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        # Minibatches of other rows are other minibatches: weights equal repetition only without them.
        tags.non_deterministic = False
        return tags

    def _class_weight(self, y: NDArray[Any]) -> NDArray[np.float64] | None:
        return None

    @property
    @abstractmethod
    def _stratifies(self) -> bool: ...

    @abstractmethod
    def _start(self, y: NDArray[Any], weight: NDArray[np.float64]) -> None: ...

    @abstractmethod
    def _target(self, y: NDArray[Any]) -> NDArray[Any]: ...

    @abstractmethod
    def _deviation(self, out: Any) -> tuple[Any, Any]: ...

    @abstractmethod
    def _as_answers(self, scores: NDArray[np.float64]) -> NDArray[np.float64]: ...

    @abstractmethod
    def _report(
        self, X: Any, target: Any, weight: Any, fitted: NDArray[np.intp], held: NDArray[np.intp], valid: Any
    ) -> dict[str, Any]: ...
