"""Panels in npz and NetCDF files: arrays by name, dims by name."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from estimators.readers.columns import guess, listing, pick, truth_inside
from theory._exceptions import PanelError

ANSWERS = ("answers", "panel", "predictions", "votes", "probabilities")
TRUTHS = ("truth", "gold", "y", "y_true", "target", "ground_truth", "label", "labels")
SPECIALISTS = ("specialist", "specialists", "names", "model", "models")
SAMPLES = ("sample", "sample_id", "sample_ids", "item", "question", "id")
CLASSES = ("classes", "class", "output", "outputs")


@dataclass(frozen=True, eq=False)
class Arrays:
    """What an array file holds, found by name; None where it holds nothing of the kind."""

    answers: np.ndarray | None
    truth: np.ndarray | None
    names: tuple[str, ...] | None
    sample_ids: np.ndarray | None
    n_options: np.ndarray | None
    classes: tuple[str, ...] | None
    variables: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_npz(path: Path, *, answer: str | None, truth: str | None) -> Arrays:
    """Read a panel from an npz archive; pickled objects are refused."""
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise PanelError(f"{path.name} holds one bare array; save answers and truth with numpy.savez.")
        with opened as archive:
            arrays = {name: archive[name] for name in archive.files}
    except PanelError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "pickle" in reason:
            reason = "it holds pickled objects; save texts as numpy str arrays (array.astype(str))."
        raise PanelError(f"{path.name} cannot be read: {reason}") from error
    names = list(arrays)
    found = guess(names, ANSWERS)
    if answer is not None:
        found = pick(names, answer, role="answers", source=path.name, noun="array")
    gold = _find_truth(names, truth, source=path.name, noun="array")
    labels = guess(names, SPECIALISTS)
    samples = guess(names, SAMPLES)
    classes = guess(names, CLASSES)
    options = guess(names, ("n_options",))
    return Arrays(
        answers=None if found is None else arrays[found],
        truth=None if gold is None else arrays[gold],
        names=None if labels is None else _texts(arrays[labels]),
        sample_ids=None if samples is None else arrays[samples],
        n_options=None if options is None else arrays[options],
        classes=None if classes is None else _texts(arrays[classes]),
        variables=tuple(names),
        notes=_notes(found, gold, "array"),
    )


def read_netcdf(
    path: Path, *, answer: str | None, truth: str | None, sample: str | None, specialist: str | None
) -> Arrays:
    """Read a panel from a NetCDF file; dims are found by name, in any order."""
    import xarray as xr

    try:
        with xr.open_dataset(path) as opened:
            dataset = opened.load()
    except ImportError as error:
        raise PanelError(
            f"reading {path.name} needs h5netcdf and h5py: pip install 'consilience[report]'."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PanelError(f"{path.name} cannot be read: {reason}") from error
    source = path.name
    rows = pick(
        [str(dim) for dim in dataset.dims], sample or "sample", role="samples", source=source, noun="dim"
    )
    columns = specialist or "specialist"
    tables = [str(name) for name, one in dataset.data_vars.items() if {rows, columns} <= set(one.dims)]
    per_sample = [
        str(name) for name, one in dataset.variables.items()
        if rows in one.dims and columns not in one.dims and name != rows
    ]  # fmt: skip
    found = guess(tables, ANSWERS) or (tables[0] if len(tables) == 1 else None)
    if answer is not None:
        found = pick(
            tables, answer, role="answers", source=source, noun=f"variable over {rows} and {columns}"
        )
    elif found is None and tables:
        raise PanelError(
            f"{source} has several variables over {rows} and {columns}: {listing(tables)}. Name the answers "
            "with answer=NAME."
        )
    gold = _find_truth(per_sample, truth, source=source, noun="variable")
    answers = classes = None
    if found is not None:
        outputs = tuple(str(dim) for dim in dataset[found].dims if dim not in {rows, columns})
        if len(outputs) > 1:
            raise PanelError(
                f"{source}: {found!r} has dims {listing(dataset[found].dims)}; needed are {rows}, {columns} "
                "and at most one more, the output. Select or stack the others first."
            )
        answers = dataset[found].transpose(rows, columns, *outputs).values
        classes = _coordinate(dataset, outputs[0]) if outputs else None
    return Arrays(
        answers=answers,
        truth=None if gold is None else _rows_first(dataset[gold], rows),
        names=_coordinate(dataset, columns),
        sample_ids=dataset.coords[rows].values if rows in dataset.coords else None,
        n_options=dataset["n_options"].values if "n_options" in per_sample else None,
        classes=classes,
        variables=tuple(str(name) for name in dataset.variables),
        notes=_notes(found, gold, "variable"),
    )


def _rows_first(array: Any, rows: str) -> np.ndarray:
    return np.asarray(array.transpose(rows, ...).values)


def _coordinate(dataset: Any, dim: str) -> tuple[str, ...] | None:
    return _texts(dataset.coords[dim].values) if dim in dataset.coords else None


def _texts(array: np.ndarray) -> tuple[str, ...]:
    return tuple(str(value) for value in np.asarray(array).ravel().tolist())


def _find_truth(names: Sequence[str], truth: str | None, *, source: str, noun: str) -> str | None:
    return guess(names, TRUTHS) if truth is None else truth_inside(names, truth, source=source, noun=noun)


def _notes(answers: str | None, truth: str | None, noun: str) -> tuple[str, ...]:
    found = {"answers": answers, "truth": truth}
    return tuple(f"{role} read from the {noun} {name!r}" for role, name in found.items() if name is not None)


def check_shapes(source: str, answers: np.ndarray, sizes: Mapping[str, tuple[int | None, int]]) -> None:
    """Refuse side arrays whose length does not fit the answers.

    Parameters
    ----------
    source : str
        Name of the file.
    answers : ndarray of shape (sample, specialist) or (sample, specialist, output)
        The answers.
    sizes : mapping of str to (int or None, int)
        For each side array its length (None: not there) and the axis of the answers it runs along.
    """
    for name, (size, axis) in sizes.items():
        if size is not None and size != answers.shape[axis]:
            raise PanelError(
                f"{source}: {name} has {size} entries and the answers have shape {answers.shape}; {name} "
                f"runs along axis {axis}, so {answers.shape[axis]} were needed."
            )
