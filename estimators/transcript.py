"""What a callable said, kept by the content of the sample: asked once, replayed without the network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np

from theory import PanelError

_FORMAT = 1


class Transcript(MutableMapping[str, Any]):
    """A file of answers: a head line, then a JSON line for each answer, written as it comes.

    Parameters
    ----------
    path : str or path
        Made at the first answer if it is not there.
    classes : list or None
        Labels behind the answers; a file of other labels is refused.

    Raises
    ------
    PanelError
        If the file is no transcript, or one of other classes.

    Notes
    -----
    A last line that was cut off (the process died while writing) is dropped.
    """

    def __init__(self, path: str | os.PathLike[str], *, classes: list[Any] | None):
        self.path = os.fspath(path)
        self.head = {"transcript": _FORMAT, "classes": classes}
        self._answers: dict[str, Any] = {}
        if os.path.exists(self.path):
            self._read()

    def _read(self) -> None:
        with open(self.path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        cut = lines.pop()
        if cut:
            os.truncate(self.path, os.path.getsize(self.path) - len(cut.encode()))
        try:
            head = json.loads(lines[0])
            records = [json.loads(line) for line in lines[1:] if line]
            self._answers = {record["key"]: record["answer"] for record in records}
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise PanelError(f"{self.path} is no transcript ({error}). Give another cache=.") from error
        if head != json.loads(json.dumps(self.head)):
            raise PanelError(
                f"{self.path} was written for {head}; needed {self.head}. Give another cache=, or the same classes."
            )

    def __getitem__(self, key: str) -> Any:
        return self._answers[key]

    def __setitem__(self, key: str, answer: Any) -> None:
        line = json.dumps({"key": key, "answer": answer}) + "\n"
        if not os.path.exists(self.path):
            line = json.dumps(self.head) + "\n" + line
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line)
        self._answers[key] = answer

    def __delitem__(self, key: str) -> None:
        raise PanelError("a transcript is only added to. Give another cache= to start anew.")

    def __contains__(self, key: object) -> bool:
        return key in self._answers

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)


def sample_key(sample: Any) -> str:
    """Give a key that depends on the content of a sample only, the same in every process.

    Parameters
    ----------
    sample : str, array, Series, mapping, sequence or number
        One sample of a view.

    Returns
    -------
    str
        Hexadecimal SHA-256.

    Examples
    --------
    >>> sample_key("a text") == sample_key("a text"), sample_key("1") == sample_key(1)
    (True, False)
    """
    if isinstance(sample, np.ndarray) and sample.dtype.kind in "fiub":
        head, body = f"{sample.dtype.str}{sample.shape}", np.ascontiguousarray(sample).tobytes()
    else:
        if hasattr(sample, "to_dict"):
            sample = sample.to_dict()
        elif hasattr(sample, "tolist"):
            sample = sample.tolist()
        head, body = type(sample).__name__, json.dumps(sample, sort_keys=True, default=repr).encode()
    return hashlib.sha256(head.encode() + b"\0" + body).hexdigest()
