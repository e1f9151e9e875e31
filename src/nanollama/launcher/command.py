"""What the commands that launch a config have in common: their help, the list of what would be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nanollama.config import Config
from nanollama.entrypoint import DRY_RUN_FLAG, HELP_FLAGS, guard, key_lines
from nanollama.errors import EXIT_OK, UserError
from nanollama.launcher.plan import Plan


def launch(
    arguments: Sequence[str],
    read: Callable[[Sequence[str]], Plan],
    work: Callable[[Plan], int],
    help_text: Callable[[], str],
) -> int:
    """Do the work on the plan that arguments describe, list its runs, or print help; the exit code.

    Args:
        arguments: of the command.
        read: makes the plan of them.
        work: what the command is for; its exit code.
        help_text: its first line is the usage.
    """

    def guarded() -> int:
        if HELP_FLAGS.intersection(arguments):
            print(help_text(), end="")
            return EXIT_OK
        if not arguments:
            raise UserError(help_text().partition("\n")[0])
        plan = read([item for item in arguments if item != DRY_RUN_FLAG])
        if DRY_RUN_FLAG not in arguments:
            return work(plan)
        from nanollama.launcher.grid.estimate import describe_plan

        print("\n".join(describe_plan(plan)))
        return EXIT_OK

    return guard(guarded)


def describe_command(
    usage: str, about: str, options: Mapping[str, str], sections: Mapping[str, type[Config]]
) -> str:
    """The help of such a command.

    Args:
        usage: what is typed before the options.
        about: what the command does, in a sentence or two.
        options: of this command, with what each is for.
        sections: of the config, by name, whose keys it heeds.
    """
    options = {**options, DRY_RUN_FLAG: "list the runs and stop"}
    width = max(map(len, options))
    lines = [f"usage: {usage} [--dry-run] [--help]", "", about, ""]
    lines += [f"  {name:<{width}}  {what}" for name, what in options.items()]
    lines += ["", "keys, beside those of the study's runs:"]
    for section, config_class in sections.items():
        lines += key_lines(config_class, f"{section}.")
    return "\n".join(lines) + "\n"
