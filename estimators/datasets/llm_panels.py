"""Four panels of language models that answered the same questions, with the right answers."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from estimators.datasets._archives import DATA, read_archive
from theory._exceptions import PanelError

if TYPE_CHECKING:
    import xarray as xr

_LICENCE = (
    "answers: Apache License 2.0 (changed: parsed, coded, counted, selected); gold codes: {gold}. Produced "
    "by third parties' models, whose own terms may restrict training on outputs: use for analysis and tests. "
    "Texts: LICENSES.txt"
)
_ZEROEVAL = "WildEval/ZeroEval, result_dirs/{folder}, commit 8c1485edf12c6efb5f69135a562927c5ad484059"


@dataclass(frozen=True)
class _Source:
    sha256: str
    open: bool
    provenance: str
    gold_licence: str


_SOURCES = {
    "mmlupro": _Source(
        "68192699ff0666b393c2c8d5cb6445636a04c6b677c851fd4fb06d6b00565afc",
        False,
        "TIGER-AI-Lab/MMLU-Pro, eval_results, commit f418b116db00b065c2aea046518d8fcf74d39872",
        "Apache License 2.0 (MMLU-Pro)",
    ),
    "cruxeval": _Source(
        "c3a521935de7d00f162c39d5d53fe1f6d98135cb6b178c681e61676d9c1167a0",
        True,
        _ZEROEVAL.format(folder="crux"),
        "MIT (CRUXEval, Copyright (c) 2023 Meta)",
    ),
    "mathl5": _Source(
        "d221b0d82780023dc83e45b1533baf72bcf840d5ed87d7696f18b6966776e5e9",
        True,
        _ZEROEVAL.format(folder="math-l5"),
        "MIT (MATH, Copyright (c) 2021 Dan Hendrycks)",
    ),
    "gsm8k": _Source(
        "bb92bf9aa36031750132e309a9c54b408aea05b374733cb0a0ee419149e49829",
        True,
        _ZEROEVAL.format(folder="gsm"),
        "MIT (GSM8K, Copyright (c) 2021 OpenAI)",
    ),
}
_FIELDS = ("answers", "gold", "n_options", "specialist", "family", "sample_id")


@dataclass(frozen=True, eq=False)
class LLMPanel:
    """Answers of language models to the same questions, as returned by :func:`load_llm_panel`.

    Attributes
    ----------
    name : str
        Which panel: "mmlupro", "cruxeval", "mathl5" or "gsm8k".
    answers : ndarray of shape (sample, specialist), int64
        Code of the option chosen, below ``n_options`` of its sample; -1 where the model ran and no answer
        could be parsed (an abstention; two of them do not agree with each other).
    gold : ndarray of shape (sample,), int64
        Code of the right option. In an open panel ``gold == n_options`` says that nobody here proposed it.
    n_options : ndarray of shape (sample,), int64
        Options shown; in an open panel the number of distinct answers proposed.
    specialist, family : ndarray of shape (specialist,), str
        The models' names and their developers.
    sample_id : ndarray of shape (sample,), int64
        Number of the question in its benchmark.
    open : bool
        True if there is no closed set of options: codes then carry no meaning across samples.
    arrays : dict of str to ndarray
        What else the file holds (lengths of texts, values behind codes, subjects, features); see its README.
    provenance, licence : str
        Where the answers come from, and the terms of use.

    Notes
    -----
    An abstention is neither right nor wrong as an answer; ``correct`` scores it as not right.

    Examples
    --------
    >>> import numpy as np
    >>> from estimators import LLMPanel
    >>> panel = LLMPanel(name="two", answers=np.array([[0, 1], [2, -1]]), gold=np.array([0, 2]),
    ...                  n_options=np.array([2, 3]), specialist=np.array(["a", "b"]),
    ...                  family=np.array(["x", "y"]), sample_id=np.arange(2), open=False)
    >>> panel.correct
    array([[ True, False],
           [ True, False]])
    >>> panel.votes.shape
    (2, 2, 3)
    """

    name: str
    answers: np.ndarray
    gold: np.ndarray
    n_options: np.ndarray
    specialist: np.ndarray
    family: np.ndarray
    sample_id: np.ndarray
    open: bool
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    provenance: str = ""
    licence: str = ""

    @property
    def n_classes(self) -> int:
        """Length of the output axis of ``votes``: the most options of a sample, one more in an open panel."""
        return int(self.n_options.max()) + self.open

    @cached_property
    def votes(self) -> np.ndarray:
        """One-hot answers, float64 of shape (sample, specialist, output); an abstention is all zero.

        In an open panel column ``n_options[i]`` of sample i stands for "none of these": nobody votes for
        it, and it is the gold column where nobody proposed the right answer. Columns beyond it are unused.
        Built on first use.
        """
        return (self.answers[..., None] == np.arange(self.n_classes)).astype(np.float64)

    @cached_property
    def correct(self) -> np.ndarray:
        """Whether each answer is right, bool of shape (sample, specialist); an abstention is not."""
        return self.answers == self.gold[:, None]

    @cached_property
    def errors(self) -> np.ndarray:
        """1.0 where a specialist was not right (or abstained), float64 of shape (sample, specialist)."""
        return 1.0 - self.correct

    def to_dataset(self) -> xr.Dataset:
        """Return answers, gold and n_options as an xarray Dataset.

        Returns
        -------
        xarray.Dataset
            Dims sample and specialist; coordinates sample (the question's number), specialist and family.
        """
        import xarray as xr

        return xr.Dataset(
            {
                "answers": (("sample", "specialist"), self.answers),
                "gold": ("sample", self.gold),
                "n_options": ("sample", self.n_options),
            },
            coords={
                "sample": self.sample_id,
                "specialist": self.specialist,
                "family": ("specialist", self.family),
            },
            attrs={"name": self.name, "provenance": self.provenance, "licence": self.licence},
        )


def llm_panel_names() -> tuple[str, ...]:
    """Return the names that :func:`load_llm_panel` knows.

    Returns
    -------
    tuple of str
        In the order of the data's README.

    Examples
    --------
    >>> from estimators import llm_panel_names
    >>> llm_panel_names()
    ('mmlupro', 'cruxeval', 'mathl5', 'gsm8k')
    """
    return tuple(_SOURCES)


def _locate(name: str, path: str | PathLike[str] | None) -> Path:
    file = DATA / "llm_panels" / f"{name}.npz"
    if path is not None:
        given = Path(path).expanduser()
        file = given / f"{name}.npz" if given.is_dir() else given
        if not file.is_file():
            raise FileNotFoundError(
                f"there is no file {file}; path= takes the file {name}.npz itself or the folder with it."
            )
    elif not file.is_file():
        raise FileNotFoundError(
            f"the panel {name!r} is not installed: the wheel leaves out the answers of third parties' "
            f"models, whose terms differ from the library's. Take {name}.npz from the repository of "
            f"consilience (folder estimators/datasets/data/llm_panels) and call "
            f"load_llm_panel({name!r}, path=FOLDER)."
        )
    return file


def load_llm_panel(name: str, path: str | PathLike[str] | None = None) -> LLMPanel:
    """Load what many language models answered to the same questions, with the right answers.

    Parameters
    ----------
    name : str
        "mmlupro" (8970 x 28, three to ten options), "cruxeval" (600 x 51), "mathl5" (541 x 41) or "gsm8k"
        (989 x 43); the last three are open.
    path : str or path, optional
        The file, or the folder that holds it. Default: the data folder of a checkout.

    Returns
    -------
    LLMPanel
        Answers, gold and options as int64; the arrays are fresh at each call.

    Raises
    ------
    PanelError
        If no panel has that name, or the file's SHA-256 is not the one recorded here.
    FileNotFoundError
        If the file is not there; the wheel does not contain it.

    Notes
    -----
    Abstentions are -1 and uneven over models (a median of 11 % on mmlupro). The random letters that the
    benchmark's scripts drew for five models are not in ``answers``; ``arrays["random_letter"]`` keeps them.

    References
    ----------
    The README and LICENSES.txt beside the files.

    Examples
    --------
    >>> from estimators import load_llm_panel
    >>> load_llm_panel("gsm8k").answers.shape
    (989, 43)
    >>> load_llm_panel("gsm")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    theory._exceptions.PanelError: no panel is called 'gsm'; there are mmlupro, ... Did you mean 'gsm8k'?
    """
    if name not in _SOURCES:
        near = difflib.get_close_matches(str(name), _SOURCES, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise PanelError(f"no panel is called {name!r}; there are {', '.join(_SOURCES)}.{hint}")
    source = _SOURCES[name]
    arrays = read_archive(_locate(name, path), sha256=source.sha256)
    return LLMPanel(
        name=name,
        answers=arrays["answers"].astype(np.int64),
        gold=arrays["gold"].astype(np.int64),
        n_options=arrays["n_options"].astype(np.int64),
        specialist=arrays["specialist"],
        family=arrays["family"],
        sample_id=arrays["sample_id"].astype(np.int64),
        open=source.open,
        arrays={key: value for key, value in arrays.items() if key not in _FIELDS},
        provenance=source.provenance,
        licence=_LICENCE.format(gold=source.gold_licence),
    )
