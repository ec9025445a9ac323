"""A specialist that is a torch module: fitted already, or trained by a plain loop."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length
from torch import nn

from estimators.answers import label_codes
from estimators.columns import take_rows
from estimators.mid.trainer import seeded
from estimators.specialists import Specialist, answerer_tags
from estimators.views import select_view
from theory import PanelError

_LOSSES = ("cross_entropy", "mse")


class TorchSpecialist(Specialist):
    """A torch module behind the interface of a :class:`Specialist`.

    Parameters
    ----------
    model : torch.nn.Module
        Gets a float tensor (sample, ...) of its view, and gives (sample, output).
    classes : sequence, optional
        Labels of the module's outputs, in their order. With a loss they are learned from ``y`` by default;
        give them where some training samples, or folds, may lack one.
    task : {"classification", "regression"}
        What it answers with.
    method : {"logits", "proba"}
        Whether a classifier's outputs still need a softmax.
    layer : str, optional
        Name of the submodule whose output :meth:`embed` gives; see ``model.named_modules()``.
    loss : None, "cross_entropy", "mse" or callable
        None: the module is frozen; clones share it. Else ``fit`` trains a copy; a callable gets outputs and
        targets and gives a scalar.
    epochs, batch_size, learning_rate : int, int, float
        Of the training loop (Adam), whose batches differ by one sample at most; ``predict``, too, takes so many
        samples at a time.
    device : str
        Where it runs.
    random_state : int
        Seed of shuffling and dropout; the global state of torch stays as it was, that of ``device`` included.
    view, calibration, cost, owner, on_error, name : object
        As in :class:`Specialist`.

    Attributes
    ----------
    model_ : object
        What answers; ``model_.module`` is the fitted module.
    classes_ : ndarray
        Labels, of a classifier.

    Notes
    -----
    Answers are made in evaluation mode without gradients, in the dtype of the module's parameters, and come
    back as float64. The modes that the module and its parts were in are restored once nobody asks it any more;
    several threads may ask at a time.

    References
    ----------
    .. [1] Kingma & Ba, Adam: a method for stochastic optimization, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> X, y = np.array([[-1.0], [1.0]] * 20), np.array(["no", "yes"] * 20)
    >>> net = TorchSpecialist(nn.Linear(1, 2), loss="cross_entropy", learning_rate=0.1)
    >>> net.fit(X, y).predict(X[:2]).tolist()
    ['no', 'yes']
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: Any = None,
        task: str = "classification",
        method: str = "logits",
        layer: str | None = None,
        loss: str | Callable[..., Any] | None = None,
        epochs: int = 20,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        device: str = "cpu",
        random_state: int = 0,
        view: Any = None,
        calibration: Any = None,
        cost: float = 1.0,
        owner: str | None = None,
        on_error: str = "raise",
        name: str | None = None,
    ):
        self.model = model
        self.classes = classes
        self.task = task
        self.method = method
        self.layer = layer
        self.loss = loss
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.view = view
        self.calibration = calibration
        self.cost = cost
        self.owner = owner
        self.on_error = on_error
        self.name = name

    @property
    def freeze(self) -> bool:
        """Whether the module is fitted already."""
        return self.loss is None

    @property
    def use_weights(self) -> bool:
        """Whether ``fit`` hands weights on to the loss."""
        return isinstance(self.loss, str)

    @property
    def answer_method_(self) -> str:
        """The method behind ``answer``."""
        return "predict_proba" if self.task == "classification" else "predict"

    def embed(self, X: Any) -> NDArray[np.float64]:
        """Give what the submodule ``layer`` puts out.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.

        Returns
        -------
        ndarray of float64, shape (sample, feature)
            Flattened for each sample; NaN rows for samples without the view.

        Raises
        ------
        PanelError
            If ``layer`` is not set or names no submodule.
        """
        module = self.model_.module if hasattr(self, "model_") else self.model
        layers = dict(module.named_modules())
        if self.layer not in layers or not self.layer:
            raise PanelError(
                f"layer={self.layer!r} names no submodule; there are {[k for k in layers if k]}."
            )
        part, present = select_view(X, self.view)
        caught: list[torch.Tensor] = []
        me = threading.get_ident()  # others may be asking the same module

        def catch(_module: Any, _inputs: Any, out: torch.Tensor) -> None:
            if threading.get_ident() == me:
                caught.append(out.detach())

        hook = layers[self.layer].register_forward_hook(catch)
        try:
            rows = None if present is None else np.flatnonzero(present)
            _forward(module, part if rows is None else take_rows(part, rows), self.device, self.batch_size)
        finally:
            hook.remove()
        found = torch.cat([one.flatten(1) for one in caught]).double().cpu().numpy()
        if present is None:
            return found
        spread = np.full((len(present), found.shape[1]), np.nan)
        spread[present] = found
        return spread

    def _check_params(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise PanelError(f"model must be a torch.nn.Module; got {type(self.model).__name__}.")
        for key, allowed in (("task", ("classification", "regression")), ("method", ("logits", "proba"))):
            if getattr(self, key) not in allowed:
                raise PanelError(f"{key} must be one of {allowed}; got {getattr(self, key)!r}.")
        if isinstance(self.loss, str) and self.loss not in _LOSSES:
            raise PanelError(f"loss must be one of {_LOSSES}, a callable or None; got {self.loss!r}.")
        for key in ("epochs", "batch_size"):
            if not isinstance(getattr(self, key), int) or getattr(self, key) < 1:
                raise PanelError(f"{key} must be a whole number >= 1; got {getattr(self, key)!r}.")
        self._check_common()

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TorchSpecialist:
        """Train a copy of the module on the samples that have the view; a frozen one is taken as it is.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.
        y : array-like of shape (sample,) or (sample, output)
            Truth.
        sample_weight : array-like of shape (sample,), optional
            Multiplies the loss of each sample, of a loss given by name.

        Returns
        -------
        self : TorchSpecialist

        Raises
        ------
        PanelError
            If a parameter is out of range, ``classes`` is missing or lacks a label, the module's outputs are not
            as many as classes or targets, its parameters are not finite after training, or the view is absent
            everywhere.
        """
        self._check_params()
        if self.freeze:
            if self.task == "classification" and self.classes is None:
                raise PanelError(
                    f"specialist {self._label()} is fitted already. Give classes=, or a loss to train it."
                )
            self.model_ = _Module(self, self.model, self.classes)
            return self
        part, present = select_view(X, self.view)
        check_consistent_length(part, y, sample_weight)
        rows = np.arange(len(np.asarray(y))) if present is None else np.flatnonzero(present)
        if not len(rows):
            raise PanelError(f"view {self.view!r} is absent from every sample; nothing to fit on.")
        truth = np.asarray(y)[rows]
        weight = None if sample_weight is None or not self.use_weights else np.asarray(sample_weight)[rows]
        classes, target = None, truth
        if self.task == "classification":
            classes = np.unique(truth) if self.classes is None else np.asarray(self.classes)
            codes = label_codes(classes)
            stray = [label for label in np.unique(truth).tolist() if label not in codes]
            if stray:
                raise PanelError(f"y holds {stray[:10]}, which are not among classes={list(codes)[:10]}.")
            target = np.array([codes[label] for label in truth.tolist()], dtype=np.int64)
        module = copy.deepcopy(self.model)
        self._train(module, take_rows(part, rows), target, weight, None if classes is None else len(classes))
        self.model_ = _Module(self, module, classes)
        return self

    def _train(
        self, module: nn.Module, part: Any, target: NDArray[Any], weight: Any, n_classes: int | None
    ) -> None:
        inputs = _tensor(part, module, self.device)
        truth = torch.as_tensor(target, device=self.device)
        truth = (
            truth.long() if self.task == "classification" else truth.to(inputs.dtype).reshape(len(truth), -1)
        )
        shares = None if weight is None else torch.as_tensor(weight, dtype=inputs.dtype, device=self.device)
        width = truth.shape[1] if n_classes is None else n_classes
        with seeded(self.random_state, torch.device(self.device)):
            module.to(self.device).train()
            steps = torch.optim.Adam(module.parameters(), lr=self.learning_rate)
            for _ in range(self.epochs):
                # of equal size: a last batch of one sample is more than batch normalization can take
                for rows in torch.randperm(len(inputs)).tensor_split(-(-len(inputs) // self.batch_size)):
                    steps.zero_grad()
                    share = None if shares is None else shares[rows]
                    self._loss(module(inputs[rows]), truth[rows], share, width).backward()
                    steps.step()
        module.eval()
        if not all(bool(torch.isfinite(one).all()) for one in module.parameters()):
            raise PanelError(
                f"specialist {self._label()} has parameters that are not finite after training. Lower learning_rate, or "
                "look for NaN in X and y."
            )

    def _loss(self, said: torch.Tensor, truth: torch.Tensor, share: Any, width: int) -> torch.Tensor:
        if not isinstance(self.loss, str):
            return self.loss(said, truth)  # type: ignore[misc]
        said = said.reshape(
            len(truth), -1
        )  # (sample,) minus (sample, 1) would be every sample minus every other
        if said.shape[1] != width:
            what = "classes" if self.task == "classification" else "targets"
            raise PanelError(
                f"specialist {self._label()} gives {said.shape[1]} outputs for {width} {what}. Change its last layer"
                f"{', or give classes= if y lacks some' if what == 'classes' else ''}."
            )
        if self.loss == "cross_entropy":
            logits = said if self.method == "logits" else said.clamp_min(1e-12).log()
            each = nn.functional.cross_entropy(logits, truth, reduction="none")
        else:
            goal = nn.functional.one_hot(truth, said.shape[1]) if self.task == "classification" else truth
            each = (said - goal).square().mean(dim=1)
        return each.mean() if share is None else (each * share).sum() / share.sum().clamp_min(1e-12)

    def _inner_tags(self) -> Any:
        return answerer_tags(classifier=self.task == "classification", multi_output=True, sparse=True)

    def __sklearn_clone__(self) -> TorchSpecialist:
        return type(self)(**self.get_params(deep=False))


class _Module:
    """A fitted module, answering like a fitted model."""

    def __init__(self, owner: TorchSpecialist, module: nn.Module, classes: Any):
        self.module, self.method = module, owner.method
        self.device, self.batch_size = owner.device, owner.batch_size
        if classes is not None:
            label_codes(classes)
            self.classes_ = np.asarray(classes)
            self.predict_proba = self._probabilities

    def _probabilities(self, part: Any) -> NDArray[np.float64]:
        said = _forward(self.module, part, self.device, self.batch_size)
        return (said.softmax(dim=1) if self.method == "logits" else said).numpy()

    def predict(self, part: Any) -> NDArray[Any]:
        if hasattr(self, "classes_"):
            return self.classes_[self._probabilities(part).argmax(axis=1)]
        said = _forward(self.module, part, self.device, self.batch_size).numpy()
        return said[:, 0] if said.shape[1] == 1 else said


# Modules that answer right now: how many ask each, and the modes of its parts. Clones share a frozen module, and
# the first who is done must not switch dropout on again for the others.
_asked: dict[int, tuple[int, list[tuple[nn.Module, bool]]]] = {}
_asked_lock = threading.Lock()


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    with _asked_lock:
        count, modes = _asked.get(id(module), (0, []))
        if not count:
            modes = [(one, one.training) for one in module.modules()]
            module.eval()
        _asked[id(module)] = (count + 1, modes)
    try:
        yield
    finally:
        with _asked_lock:
            count, modes = _asked.pop(id(module))
            if count > 1:
                _asked[id(module)] = (count - 1, modes)
            else:
                for one, training in modes:
                    one.training = training


def _forward(module: nn.Module, part: Any, device: str, batch_size: int) -> torch.Tensor:
    module.to(device)
    with _evaluating(module), torch.no_grad():
        said = [module(rows) for rows in _tensor(part, module, device).split(batch_size)]
    whole = torch.cat(said).double().cpu()
    return whole.reshape(len(whole), -1)


def _tensor(part: Any, module: nn.Module, device: str) -> torch.Tensor:
    kinds: Iterator[torch.dtype] = (one.dtype for one in module.parameters() if one.dtype.is_floating_point)
    values = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
    return torch.as_tensor(np.array(values, dtype=np.float64), device=device).to(next(kinds, torch.float32))
