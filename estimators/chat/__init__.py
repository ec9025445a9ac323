"""Language models behind OpenAI-compatible endpoints: specialists, recordings, deliberation in text."""

from typing import TYPE_CHECKING

from theory._lazy import attach

_EXPORTS = {
    "Cassette": "cassette",
    "ChatAnswer": "specialist",
    "ChatClient": "client",
    "ChatReply": "wire",
    "ChatSpecialist": "specialist",
    "Price": "wire",
    "QuoteCheck": "quotes",
    "TextItem": "room",
    "TextRun": "text_run",
    "check_quote": "quotes",
    "deliberate_text": "deliberation",
}
__all__ = sorted(_EXPORTS)

__getattr__, __dir__ = attach(__name__, _EXPORTS)

if TYPE_CHECKING:
    from estimators.chat.cassette import Cassette
    from estimators.chat.client import ChatClient
    from estimators.chat.deliberation import deliberate_text
    from estimators.chat.quotes import QuoteCheck, check_quote
    from estimators.chat.room import TextItem
    from estimators.chat.specialist import ChatAnswer, ChatSpecialist
    from estimators.chat.text_run import TextRun
    from estimators.chat.wire import ChatReply, Price
