"""Forms of what a model may say: proposal, critique, revision, verdict, argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from estimators.chat.reading import ReadingError

_SUM_TOLERANCE = 0.02


def need_extra(module: str) -> Any:
    """Import a module of the extra ``[llm]``.

    Parameters
    ----------
    module : str
        "httpx" or "pydantic".

    Returns
    -------
    module

    Raises
    ------
    ImportError
        With the command that installs it.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(f"chat endpoints need {module}: pip install 'consilience[llm]'") from error


@lru_cache(maxsize=256)
def proposal_form(labels: tuple[str, ...]) -> Any:
    """Give the form of a proposal: one of the labels, a confidence, up to five reasons with quotes."""
    return _model("Proposal", **_proposal_fields(labels))


@lru_cache(maxsize=256)
def popularity_form(labels: tuple[str, ...]) -> Any:
    """Give the form of a proposal with the shares that the answers of others are expected to have."""
    shares = _model("Others", **dict.fromkeys(labels, _share()))
    return _model("Popularity", **_proposal_fields(labels), others=(shares, ...))


def _proposal_fields(labels: tuple[str, ...]) -> dict[str, Any]:
    pydantic = need_extra("pydantic")
    reason = _model("Reason", claim=(str, ...), quote=(str, ...))
    return {
        "answer": (Literal[labels], ...),
        "confidence": _share(),
        "reasons": (list[reason], pydantic.Field(max_length=5)),
    }


def _share() -> Any:
    return (float, need_extra("pydantic").Field(ge=0.0, le=1.0))


@lru_cache(maxsize=256)
def critique_form(labels: tuple[str, ...]) -> Any:
    """Give the form of a critique of one proposed answer."""
    return _model(
        "Critique",
        target=(Literal[labels], ...),
        verdict=(Literal["supported", "refuted", "unknown"], ...),
        quote=(str, ...),
        p_right=_share(),
    )


@lru_cache(maxsize=256)
def revision_form(proposed: tuple[str, ...], critiques: tuple[str, ...]) -> Any:
    """Give the form of a revision: keep, or change to a proposed answer because of critiques."""
    change = Literal[proposed] | None
    because = list[Literal[critiques]] if critiques else list[str]
    return _model(
        "Revision",
        action=(Literal["keep", "change_to"], ...),
        change_to=(change, ...),
        because=(because, ...),
    )


@lru_cache(maxsize=256)
def verdict_form(labels: tuple[str, ...]) -> Any:
    """Give the form of a verdict: a probability for each label."""
    return _model("Verdict", probs=(_model("Probs", **dict.fromkeys(labels, _share())), ...))


@lru_cache(maxsize=1)
def argument_form() -> Any:
    """Give the form of an argument: text and the quotes that it rests on."""
    pydantic = need_extra("pydantic")
    return _model("Argument", argument=(str, ...), quotes=(list[str], pydantic.Field(max_length=5)))


@lru_cache(maxsize=1)
def question_form() -> Any:
    """Give the form of a judge's question to those who argue."""
    return _model("Question", question=(str, ...))


def read_form(form: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """Check an object against a form.

    Parameters
    ----------
    form : type
        A form of this module.
    found : mapping
        From :func:`estimators.chat.reading.read_object`.

    Returns
    -------
    dict

    Raises
    ------
    ReadingError
        With status "schema" and what is wrong.

    Notes
    -----
    Probabilities of a verdict and predicted shares are renormalised only if their sum is within 0.02 of 1.
    """
    pydantic = need_extra("pydantic")
    try:
        read = form.model_validate(dict(found)).model_dump()
    except pydantic.ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:3])
        raise ReadingError("schema", told) from None
    for name in {"probs", "others"} & {*read}:
        total = sum(read[name].values())
        if abs(total - 1.0) > _SUM_TOLERANCE:
            raise ReadingError("schema", f"{name}: the sum is {total:.4g} instead of 1.")
        read[name] = {label: share / total for label, share in read[name].items()}
    if "change_to" in read and (read["action"] == "change_to") != (read["change_to"] is not None):
        raise ReadingError(
            "schema", "change_to: must be an answer with action change_to, and null with keep."
        )
    return dict(read)


def form_schema(form: Any) -> dict[str, Any]:
    """Give the JSON schema that is sent with a question."""
    return dict(form.model_json_schema())


def letters(n: int) -> tuple[str, ...]:
    """Give blind labels: A, B, ..., Z, AA, AB, ..."""
    names: list[str] = []
    for k in range(n):
        name, rest = "", k + 1
        while rest:
            rest, digit = divmod(rest - 1, 26)
            name = chr(65 + digit) + name
        names.append(name)
    return tuple(names)


def _model(name: str, **fields: Any) -> Any:
    pydantic = need_extra("pydantic")
    config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return pydantic.create_model(name, __config__=config, **fields)


def listed(labels: Sequence[str], texts: Sequence[str]) -> str:
    """Write options under their blind labels."""
    return "\n".join(f"{label}) {text}" for label, text in zip(labels, texts, strict=True))
