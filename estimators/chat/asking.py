"""One question in a given form: one repair, then an abstention with its reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from estimators.chat.client import ChatClient
from estimators.chat.reading import ReadingError, read_object
from estimators.chat.schemas import form_schema, read_form
from estimators.chat.wire import ChatReply, Messages
from fusion.deliberative import Ledger

_LONGEST_SHOWN = 4000
_LONGEST_ERROR = 500


@dataclass(frozen=True)
class Asked:
    """What came of a question.

    Attributes
    ----------
    value : dict or None
        The fields of the form; None: an abstention.
    reason : str or None
        Why there is none: one of ``estimators.chat.reading.ABSTENTIONS``, or ``http_404`` and so on.
    detail : str
        What was wrong with the text.
    replies : tuple of ChatReply
        One, or two with a repair.
    """

    value: dict[str, Any] | None
    reason: str | None
    detail: str
    replies: tuple[ChatReply, ...]

    def cost(self) -> dict[str, Any]:
        """Sum the costs of the replies; None where a part is not known."""
        summed: dict[str, Any] = {"calls": sum(reply.attempts for reply in self.replies)}
        for name in ("tokens_in", "tokens_out", "money"):
            parts = [getattr(reply, name) for reply in self.replies if reply.attempts]
            summed[name] = None if None in parts else sum(parts)
        summed["seconds"] = sum(reply.seconds for reply in self.replies)
        return summed


async def ask_in_form(
    client: ChatClient,
    messages: Messages,
    form: Any,
    *,
    ledger: Ledger | None = None,
    sample_id: str = "",
    label: str = "",
) -> Asked:
    """Ask a question whose answer has a form.

    Parameters
    ----------
    client : ChatClient
        Whom to ask.
    messages : sequence of mapping
        The conversation.
    form : type
        From :mod:`estimators.chat.schemas`.
    ledger, sample_id, label : object
        As in :meth:`ChatClient.complete_async`.

    Returns
    -------
    Asked
        Never a default or a random answer.

    Notes
    -----
    Text that cannot be read gets one repair message that quotes the error. Refused and filtered answers, HTTP
    errors, time-outs and an exhausted budget get none.
    """
    schema = form_schema(form)
    talk = [dict(message) for message in messages]
    if client.structured != "json_schema":  # the endpoint is not told the form otherwise
        told = json.dumps(schema, sort_keys=True)
        talk.append({"role": "user", "content": f"Answer with one JSON object of this JSON schema: {told}"})
    replies: list[ChatReply] = []
    reason, detail = "unparsable", ""
    for repair in (False, True):
        reply = await client.complete_async(
            talk,
            schema=schema,
            schema_name=form.__name__.lower(),
            ledger=ledger,
            sample_id=sample_id,
            label=label,
        )
        replies.append(reply)
        if reply.text is None:
            return Asked(None, reply.reason, detail, tuple(replies))
        try:
            return Asked(read_form(form, read_object(reply.text)), None, detail, tuple(replies))
        except ReadingError as error:
            # A name that the model made up is in the error, however long.
            reason, detail = ("truncated" if reply.truncated else error.status), str(error)[:_LONGEST_ERROR]
        if not repair:
            ask_again = f"That could not be read: {detail} Answer again with the JSON object alone."
            talk += [
                {"role": "assistant", "content": reply.text[:_LONGEST_SHOWN]},
                {"role": "user", "content": ask_again},
            ]
    return Asked(None, reason, detail, tuple(replies))
