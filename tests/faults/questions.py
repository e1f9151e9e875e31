"""Requests of a model that tries to break out, in both languages: nothing changes, all limits hold."""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from itertools import islice
from pathlib import Path

from nanollama.dialogs.tools import DatabaseConfig, Limits, build_tool

sys.path.insert(0, str(Path(__file__).parents[1] / "dialogs" / "tools"))
from agent_people import ATTRIBUTES, PEOPLE, write_people
from hostile_requests import HostileRequests

N_AT_ONCE = 500
MAX_SECONDS = 1.0


class Questions:
    """A trial is so many requests."""

    def __init__(self, folder: Path) -> None:
        self.path = write_people(folder / "people.sqlite", PEOPLE)
        self.before = hashlib.sha256(self.path.read_bytes()).hexdigest()

    def trial(self, rng: random.Random) -> str | None:
        """Ask, and look at the replies and the folder."""
        language = rng.choice(["find", "sql"])
        requests = HostileRequests(rng, [person[0] for person in PEOPLE], language)
        tool = build_tool(
            DatabaseConfig(path=self.path, language=language, table="people", attributes=ATTRIBUTES)
        )
        try:
            for request in islice(iter(requests), N_AT_ONCE):
                begun = time.thread_time()
                text, _ = tool.reply([request])[0]
                if time.thread_time() - begun > MAX_SECONDS:
                    return f"{language}: slow: {request[:300]!r}"
                if len(text.encode()) > Limits().max_reply_bytes or "secret" in text:
                    return f"{language}: {request[:300]!r} is answered {text[:300]!r}"
        finally:
            tool.close()
        if hashlib.sha256(self.path.read_bytes()).hexdigest() != self.before:
            return f"{language}: the database has changed"
        others = sorted(set(os.listdir(self.path.parent)) - {self.path.name})
        return f"{language}: files have appeared: {others}" if others else None
