"""The training loop: seeded, early stopping, minibatches cut by index from tensors that are moved once."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from estimators.mid.network import MidNetwork, NetworkOut
from estimators.mid.reading import ViewInput
from estimators.mid.weights_file import write_weights
from fusion.mid import auxiliary_loss, blend_weights, gradient_scales, view_dropout
from fusion.mid._masked import row_losses
from theory import FaultWarning, PanelError

_BLEND_EVERY = 5
_EVALUATION_ROWS = 8192
_SMALL = 2_000_000


@dataclass(frozen=True)
class Settings:
    """How to train; the names are those of the estimators' parameters."""

    aux_weight: float
    view_dropout: float
    balance: str | None
    max_iter: int
    batch_size: int | None
    lr: float
    weight_decay: float
    patience: int
    verbose: bool
    callbacks: Sequence[Callable[..., Any]] = ()
    checkpoint: str | Path | None = None
    constant_lr: bool = False


@dataclass
class Batch:
    """Samples as tensors on one device."""

    views: list[Tensor]
    padding: list[Tensor | None]
    mask: Tensor
    target: Tensor
    weight: Tensor

    def take(self, rows: Tensor) -> Batch:
        """Give some rows, copied."""
        return self._each(lambda tensor: tensor[rows])

    def cut(self, low: int, high: int) -> Batch:
        """Give a range of rows without a copy; sequences are cut at the longest that is left."""
        part = self._each(lambda tensor: tensor[low:high])
        for v, pad in enumerate(part.padding):
            if pad is not None:
                longest = max(int((~pad).sum(dim=1).max()), 1)
                part.views[v], part.padding[v] = part.views[v][:, :longest], pad[:, :longest]
        return part

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(
            [change(values) for values in self.views],
            [None if pad is None else change(pad) for pad in self.padding],
            change(self.mask),
            change(self.target),
            change(self.weight),
        )

    def __len__(self) -> int:
        return len(self.mask)


@dataclass
class History:
    """What happened.

    Attributes
    ----------
    train, valid : list of float
        Loss per epoch; without a validation part the second is empty.
    best_epoch : int
        Whose weights were kept.
    """

    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    best_epoch: int = 0


def to_batch(
    inputs: list[ViewInput],
    mask: NDArray[np.bool_],
    target: Any,
    weight: Any,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Batch:
    """Move samples to the device, once.

    Parameters
    ----------
    inputs : list of ViewInput
        Standardised views.
    mask : ndarray of bool of shape (sample, specialist)
        Present views.
    target : ndarray of shape (sample,) or (sample, output), or None
        Class numbers or standardised numbers.
    weight : ndarray of shape (sample,), or None
        Of the samples.
    device : torch.device
        Where to.
    dtype : torch.dtype
        Of everything but masks and class numbers.

    Returns
    -------
    Batch
    """
    n = len(mask)
    y = torch.zeros(n, dtype=torch.int64) if target is None else torch.as_tensor(target)
    w = torch.ones(n) if weight is None else torch.as_tensor(weight)
    return Batch(
        [torch.as_tensor(part.values).to(device, dtype) for part in inputs],
        [None if part.padding is None else torch.as_tensor(part.padding).to(device) for part in inputs],
        torch.as_tensor(mask).to(device),
        y.to(device) if y.dtype == torch.int64 else y.to(device, dtype),
        w.to(device, dtype),
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for what happens inside and leave its global generators as they were.

    Parameters
    ----------
    seed : int
        The seed.
    device : torch.device
        Whose generator is forked beside the CPU's.

    Yields
    ------
    None
    """
    devices = [device] if device.type == "cuda" else []
    # torch.manual_seed would also seed the GPUs that are not forked and so not put back.
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def few_threads(network: nn.Module) -> Iterator[None]:
    """Run small networks on one thread: more of them cost more than they bring.

    Parameters
    ----------
    network : nn.Module
        What is run.

    Yields
    ------
    None

    Notes
    -----
    Measured on two cores: 60,000 parameters, batches of 64, 3 ms a step with one thread, 30 ms with two while another
    process runs.
    """
    before = torch.get_num_threads()
    small = sum(p.numel() for p in network.parameters()) < _SMALL
    try:
        if small:
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(before)


def train(
    network: MidNetwork,
    data: Batch,
    valid: Batch | None,
    settings: Settings,
    *,
    seed: int,
    optimizer: Any = None,
) -> History:
    """Train in place; the weights of the best validation epoch stay.

    Parameters
    ----------
    network : MidNetwork
        Trained in place.
    data : Batch
        Training rows.
    valid : Batch or None
        Rows to stop by; without them all epochs are run.
    settings : Settings
        How.
    seed : int
        Of the order of rows; dropout draws from torch's generator (see `seeded`).
    optimizer : torch.optim.Optimizer, optional
        To go on with; AdamW unless given.

    Returns
    -------
    History

    Warns
    -----
    FaultWarning
        If the loss is no longer finite: training stops and the best weights so far stay.
    """
    if settings.balance is not None and not network.has_view_scores:
        raise PanelError(
            f"balance={settings.balance!r} needs the views' own heads. Set aux_heads='shared' or 'own'."
        )
    if settings.balance == "gblend" and valid is None:
        raise PanelError("balance='gblend' compares with validation rows. Set early_stopping=True.")
    order = torch.Generator().manual_seed(seed)
    device = data.mask.device
    optimizer = adamw(network, settings) if optimizer is None else optimizer
    n = len(data)
    size = n if settings.batch_size is None else min(settings.batch_size, n)
    n_batches = math.ceil(n / size)
    total = max(settings.max_iter * n_batches, 1)
    history, best, best_state = History(), math.inf, copy.deepcopy(network.state_dict())
    blend = _Blend(network, data, valid) if settings.balance == "gblend" else None
    step = 0
    parameters = [p for p in network.parameters() if p.requires_grad]
    for epoch in _progress(settings):
        network.train()
        losses = torch.zeros((), dtype=data.weight.dtype, device=device)
        # All rows are shuffled once an epoch: minibatches are then ranges, which cost no copy.
        dealt = data.take(torch.randperm(n, generator=order).to(device)) if size < n else data
        for b in range(n_batches):
            batch = dealt.cut(b * size, min((b + 1) * size, n)) if size < n else data
            if not settings.constant_lr:
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr * one_cycle(step / total)
            step += 1
            mask = view_dropout(batch.mask, settings.view_dropout)
            out = network(batch.views, mask, batch.padding)
            loss = _loss(out, batch, settings, blend)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if settings.balance == "ogm":
                _slow_down(network, out, batch)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            losses += loss.detach() * batch.weight.sum()
        history.train.append(float(losses / data.weight.sum()))
        stop = False
        sound = all(bool(torch.isfinite(p).all()) for p in parameters)
        if not math.isfinite(history.train[-1]) or not sound:
            culprit = _culprit(network, data)
            warnings.warn(
                f"loss not finite at epoch {epoch}{culprit}. Lower lr or clip the input.",
                FaultWarning,
                stacklevel=3,
            )
            break
        if valid is not None:
            history.valid.append(evaluate(network, valid))
            if history.valid[-1] < best:
                best, history.best_epoch = history.valid[-1], epoch
                best_state = copy.deepcopy(network.state_dict())
                if settings.checkpoint is not None:
                    write_weights(settings.checkpoint, network)
            stop = epoch - history.best_epoch >= settings.patience
            if blend is not None and (epoch + 1) % _BLEND_EVERY == 0:
                blend.update(network, data, valid)
        else:
            history.best_epoch, best_state = epoch, copy.deepcopy(network.state_dict())
            if settings.checkpoint is not None:
                write_weights(settings.checkpoint, network)
        told = {
            "epoch": epoch,
            "train_loss": history.train[-1],
            "network": network,
            "n_epochs": settings.max_iter,
        }
        if valid is not None:
            told["valid_loss"] = history.valid[-1]
        stop = any([bool(call(told)) for call in settings.callbacks]) or stop
        if stop:
            break
    network.load_state_dict(best_state)
    network.eval()
    return history


def adamw(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Give AdamW that decays matrices only.

    Parameters
    ----------
    network : nn.Module
        Whose parameters.
    settings : Settings
        Learning rate and decay.

    Returns
    -------
    torch.optim.Optimizer
        Biases, norms and learned tokens do not decay.
    """
    decayed, free = [], []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            token = name.rsplit(".", 1)[-1] in ("codes", "shared", "nobody", "answer")
            (free if parameter.dim() < 2 or token else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.lr, fused=True)


def one_cycle(progress: float) -> float:
    """Give the share of the learning rate: up in the first tenth, down to nothing along a cosine.

    Parameters
    ----------
    progress : float
        0 to 1.

    Returns
    -------
    float
    """
    if progress < 0.1:
        return 0.04 + 0.96 * 0.5 * (1.0 - math.cos(math.pi * progress / 0.1))
    return 0.5 * (1.0 + math.cos(math.pi * (progress - 0.1) / 0.9)) + 4e-6


def infer(network: MidNetwork, data: Batch) -> Iterator[tuple[slice, NetworkOut]]:
    """Score samples in blocks, without gradients.

    Parameters
    ----------
    network : MidNetwork
        In evaluation.
    data : Batch
        Samples.

    Yields
    ------
    slice, NetworkOut
        Rows and what they got.
    """
    network.eval()
    with torch.no_grad(), few_threads(network):
        for lo in range(0, max(len(data), 1), _EVALUATION_ROWS):
            rows = slice(lo, min(lo + _EVALUATION_ROWS, len(data)))
            part = data.cut(rows.start, rows.stop) if len(data) else data
            yield rows, network(part.views, part.mask, part.padding)


def evaluate(network: MidNetwork, data: Batch) -> float:
    """Give the weighted mean loss of the fused answer.

    Parameters
    ----------
    network : MidNetwork
        Any.
    data : Batch
        Samples with targets.

    Returns
    -------
    float
    """
    total = 0.0
    for rows, out in infer(network, data):
        total += float((row_losses(out.scores, data.target[rows]) * data.weight[rows]).sum())
    return total / float(data.weight.sum())


def _view_losses(out: NetworkOut, batch: Batch) -> Tensor:
    assert out.view_scores is not None
    n_views = out.view_scores.shape[1]
    target = batch.target[:, None].expand(-1, n_views, *[-1] * (batch.target.dim() - 1))
    return row_losses(out.view_scores, target)


def _loss(out: NetworkOut, batch: Batch, settings: Settings, blend: _Blend | None) -> Tensor:
    fused = (row_losses(out.scores, batch.target) * batch.weight).sum() / batch.weight.sum()
    if out.view_scores is None or (settings.aux_weight == 0 and blend is None):
        return fused + out.fusion.aux_loss
    losses = _view_losses(out, batch)
    if blend is None:
        return (
            fused + settings.aux_weight * auxiliary_loss(losses, out.mask, batch.weight) + out.fusion.aux_loss
        )
    total = blend.weights[0] * fused
    for v, share in enumerate(blend.weights[1:]):
        own = auxiliary_loss(losses[:, [v]], out.mask[:, [v]], batch.weight)
        total = total + share * own
    return total + out.fusion.aux_loss


class _Blend:
    """Weights of the fused head and of each view's, set anew every few epochs."""

    def __init__(self, network: MidNetwork, data: Batch, valid: Batch | None):
        assert valid is not None
        self.start = self._losses(network, data, valid)
        self.weights = [1.0 / len(self.start)] * len(self.start)

    def update(self, network: MidNetwork, data: Batch, valid: Batch) -> None:
        """Weigh the heads by what they gained and lost since the start."""
        self.weights = blend_weights(self.start, self._losses(network, data, valid))

    def _losses(self, network: MidNetwork, data: Batch, valid: Batch) -> list[tuple[float, float]]:
        both = [self._heads(network, part) for part in (data, valid)]
        return list(zip(*both, strict=True))

    def _heads(self, network: MidNetwork, data: Batch) -> list[float]:
        fused, views, mass = 0.0, 0.0, 0.0
        for rows, out in infer(network, data):
            weight = data.weight[rows]
            part = Batch([], [], out.mask, data.target[rows], weight)
            losses = torch.where(out.mask, _view_losses(out, part), 0.0)
            fused += float((row_losses(out.scores, part.target) * weight).sum())
            views = views + (losses * weight[:, None]).sum(dim=0)
            mass = mass + (out.mask * weight[:, None]).sum(dim=0)
        seen = torch.as_tensor(mass).clamp(min=1e-12)
        return [fused / float(data.weight.sum()), *(torch.as_tensor(views) / seen).tolist()]


def _slow_down(network: MidNetwork, out: NetworkOut, batch: Batch) -> None:
    assert out.view_scores is not None
    if batch.target.dtype != torch.int64:
        raise PanelError(
            "balance='ogm' compares probabilities of the truth and so needs classes. Set balance=None."
        )
    scales = gradient_scales(out.view_scores.detach(), batch.target, out.mask)
    for encoder, scale in zip(network.encoders, scales, strict=True):
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(scale)


def _culprit(network: MidNetwork, data: Batch) -> str:
    for v, values in enumerate(data.views):
        if not bool(torch.isfinite(values).all()):
            return f" (view {network.fusion._name(v)!r})"
    for v, encoder in enumerate(network.encoders):
        if not all(bool(torch.isfinite(p).all()) for p in encoder.parameters()):
            return f" (view {network.fusion._name(v)!r})"
    return ""


def _progress(settings: Settings) -> Any:
    epochs = range(settings.max_iter)
    if not settings.verbose:
        return epochs
    from tqdm import tqdm

    return tqdm(epochs, desc="epochs", leave=False)
