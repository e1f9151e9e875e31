"""What a tool is to the model that calls it: text in, text out.

The assistant may end its turn by giving the word to a tool. Its whole message is then the request, the tool's
reply is the next turn, and the assistant goes on::

    <user>Where was Ann Bell born?<assistant>I'll look it up.
    ```
    FIND birth_place FOR Ann Bell
    ```<database>Chile<assistant>Ann Bell was born in Chile.<end>
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol

FENCE = "```"


class Reply(NamedTuple):
    """What a tool says to one request."""

    text: str
    ok: bool
    """Was the request well formed, and did it get what it asked for?"""


class Tool(Protocol):
    """Something a model can call. Derive from it and write ``role``, ``reply`` and ``close``.

    Requests are written by a model and are hostile: a tool treats them as data, changes nothing in the world,
    and is bounded in time, memory and length of its replies. The same request to the same tool gets the same
    reply, alone or in any batch.

    >>> class Adder(Tool):
    ...     role = "calculator"
    ...
    ...     def reply(self, requests):
    ...         return [self._reply(extract_request(request) or "") for request in requests]
    ...
    ...     def close(self):
    ...         pass
    ...
    ...     def _reply(self, request):
    ...         left, plus, right = request.partition("+")
    ...         if not (plus and left.isdecimal() and right.isdecimal() and len(request) < 40):
    ...             return Reply("error: write two whole numbers, as in 2+3", ok=False)
    ...         return Reply(str(int(left) + int(right)), ok=True)
    >>> Adder().answer(["Let me see.\\n```\\n19+23\\n```", "I feel like 42."])
    ['42', 'error: write two whole numbers, as in 2+3']
    """

    role: str
    """The special token that opens the tool's turns, such as ``database``."""

    @abstractmethod
    def reply(self, requests: Sequence[str]) -> list[Reply]:
        """One reply a request, in the same order. No request makes it raise."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the tool holds. It is not called again, unless to close it again."""

    def who(self, request: str) -> str:
        """What answers a request, in a word for people: the role, unless that is one of several tools."""
        return self.role

    def answer(self, requests: Sequence[str]) -> list[str]:
        """The texts of the replies."""
        return [reply.text for reply in self.reply(requests)]


def extract_request(message: str) -> str | None:
    """The last fenced block of a message, without its fences' lines and outer white space; or None.

    >>> extract_request("Let me ask.\\n```sql\\nSELECT occupation FROM people\\n```")
    'SELECT occupation FROM people'
    """
    pieces = message.split(FENCE)
    n_fences = len(pieces) - 1
    if n_fences < 2:
        return None
    last_closed = (
        2 * (n_fences // 2) - 1
    )  # pieces 1, 3, 5, ... are inside; the last is outside or never closed
    _, newline, body = pieces[last_closed].partition("\n")
    return body.strip() if newline else None
