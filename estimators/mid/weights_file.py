"""Weights of a network in a file without pickle: one npz of arrays, and the names that must fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from theory import PanelError


def state_arrays(network: nn.Module) -> dict[str, np.ndarray]:
    """Give parameters and buffers as arrays.

    Parameters
    ----------
    network : nn.Module
        Any.

    Returns
    -------
    dict of str to ndarray
    """
    return {name: value.detach().cpu().numpy().copy() for name, value in network.state_dict().items()}


def load_arrays(network: nn.Module, arrays: dict[str, Any], *, where: str = "the weights") -> None:
    """Put arrays into a network.

    Parameters
    ----------
    network : nn.Module
        Of the same construction.
    arrays : dict of str to ndarray
        Of `state_arrays`.
    where : str
        For the error.

    Raises
    ------
    PanelError
        If names or shapes differ.
    """
    own = network.state_dict()
    strange = sorted(set(arrays) ^ set(own))
    if strange:
        raise PanelError(f"{where}: parameters differ from this network's: {', '.join(strange[:5])}.")
    for name, value in own.items():
        if tuple(arrays[name].shape) != tuple(value.shape):
            raise PanelError(
                f"{where}: {name} has shape {tuple(arrays[name].shape)}; needed {tuple(value.shape)}."
            )
    network.load_state_dict({name: torch.as_tensor(np.array(value)) for name, value in arrays.items()})


def write_weights(path: str | Path, network: nn.Module) -> None:
    """Write weights to an npz file; a file of that name is replaced at the end, never half.

    Parameters
    ----------
    path : str or Path
        The file.
    network : nn.Module
        Whose weights.
    """
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    with partial.open("wb") as stream:
        np.savez(stream, **state_arrays(network))  # type: ignore[arg-type]
    partial.replace(target)


def read_weights(path: str | Path, network: nn.Module) -> None:
    """Read weights that `write_weights` wrote.

    Parameters
    ----------
    path : str or Path
        The file.
    network : nn.Module
        Of the same construction.

    Raises
    ------
    PanelError
        If the file is no such file or does not fit.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise
    except Exception as error:
        raise PanelError(f"{path} holds no weights: {error}.") from error
    load_arrays(network, arrays, where=str(path))
