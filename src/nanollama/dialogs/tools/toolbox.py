"""Several tools behind one special token: the first word of a request says which of them is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nanollama.dialogs.tools.protocol import Reply, Tool, extract_request

_LONGEST_COMMAND = 32


class Toolbox(Tool):
    """Hands each request to one of its tools; closing it closes them.

    Args:
        tools: by the first word of the requests they answer, such as ``FIND`` and ``CALC``.
        role: the special token that opens the turns of all of them.
    """

    def __init__(self, tools: Mapping[str, Tool], role: str) -> None:
        self.role = role
        self._tools = dict(tools)

    def reply(self, requests: Sequence[str]) -> list[Reply]:
        """One reply a request; each tool is asked once for all that are its own."""
        unknown = Reply(f"error: unknown command, use {' or '.join(self._tools)}", ok=False)
        replies = [unknown] * len(requests)
        words = [_first_word(request) for request in requests]
        for command, tool in self._tools.items():
            own = [index for index, word in enumerate(words) if word == command]
            for index, reply in zip(own, tool.reply([requests[index] for index in own]), strict=True):
                replies[index] = reply
        return replies

    def who(self, request: str) -> str:
        """The tool that a request is meant for; of one that is for none of them, the role."""
        tool = self._tools.get(_first_word(request))
        return self.role if tool is None else tool.who(request)

    def close(self) -> None:
        """Close all tools."""
        for tool in self._tools.values():
            tool.close()


def _first_word(message: str) -> str:
    request = extract_request(message) or ""
    return request[: _LONGEST_COMMAND + 1].partition(" ")[0]
