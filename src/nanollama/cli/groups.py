"""Groups of commands that tell those who type another word which one they want."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from typer.core import TyperGroup

from nanollama.wording import nearest_name


class VerbGroup(TyperGroup):
    """Tells who gives a path or a name where a verb belongs which verbs there are."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See click; what can be no verb is taken for what belongs behind it."""
        is_other = len(self.commands) == 1 and bool(args) and not nearest_name(args[0], self.commands)
        if args and args[0] not in self.commands and (is_other or _is_path(args[0])):
            verbs = "|".join(self.commands)
            ctx.fail(f"A verb is missing before '{args[0]}': `{ctx.command_path} {verbs} {' '.join(args)}`.")
        return super().resolve_command(ctx, args)


class RootGroup(TyperGroup):
    """Tells who types what other programs call a verb what it is called here."""

    other_words: ClassVar[Mapping[str, str]] = {
        "run": "train",
        "fit": "train",
        "test": "eval",
        "predict": "chat",
        "ask": "chat",
        "list": "runs list",
        "ls": "runs list",
        "rm": "runs delete",
        "plot": "report",
        "sweep": "grid run",
        "version": "--version",
    }

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See click; ``help`` is ``--help``."""
        if args and args[0] == "help":
            args[:] = [*args[1:], "--help"]
            if len(args) == 1:
                print(ctx.get_help())
                ctx.exit()
        if args and args[0] in self.other_words:
            ctx.fail(f"No such command '{args[0]}': it is `nanollama {self.other_words[args[0]]}` here.")
        if args and args[0] not in self.commands and _is_path(args[0]):
            ctx.fail(f"A verb is missing before '{args[0]}', such as `nanollama train CONFIG`.")
        return super().resolve_command(ctx, args)


def _is_path(word: str) -> bool:
    return "/" in word or word.endswith((".yaml", ".yml"))
