"""Ask a trained model and watch what it says to the database: ``nanollama chat RUN [key=value ...]``.

Questions come from standard input, one a line. Two words are taken for a name: all four questions about that
person are asked. ``quit`` or the end of the input ends it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from apps.memory.data_settings import DataConfig, SourceKind
from apps.memory.dataset.dependent import N_DEPENDENT_PEOPLE, dependent_people
from apps.memory.dataset.people import ATTRIBUTES, N_PEOPLE, Person, people
from apps.memory.dataset.templates import default_templates
from apps.memory.recall import TrainedMemory, open_tool
from apps.memory.settings import MemoryConfig
from apps.memory.sources import tokenizer_of
from apps.memory.sums import sum_dialogs
from nanollama.dialogs.generate import Completion, generate
from nanollama.dialogs.tools import Tool
from nanollama.entrypoint import guard
from nanollama.errors import UserError
from nanollama.tokenizer import DialogTokenizer, Message
from nanollama.training.trained import load_run
from nanollama.wording import printable

USAGE = "usage: python -m apps.memory.chat RUN [key=value ...], RUN being the folder of a run or a checkpoint"
FAREWELLS = frozenset({"quit", "exit"})
TOOLS: dict[str, SourceKind] = {"a database": "qatool", "a calculator": "sumstool"}
STYLES = {"question": "bold", "request": "yellow", "database": "cyan", "answer": "green", "note": "red"}
NOTES = {
    "limit": "cut off: the model did not come to an end",
    "malformed": "broken off: the model gave the word to somebody who cannot take it",
}
PROMPT = "ask> "


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return guard(lambda: chat(list(sys.argv[1:] if argv is None else argv)))


def chat(arguments: Sequence[str]) -> None:
    """Answer line after line.

    Args:
        arguments: the run, and keys that shall be other than the run's (``data_root``, ``database.url``).

    Raises:
        UserError: there is no such run, or its database cannot be used.
    """
    if not arguments:
        raise UserError(f"{USAGE}.")
    if {"--help", "-h"}.intersection(arguments):
        print(USAGE)
        return
    if unkeyed := [argument for argument in arguments[1:] if "=" not in argument]:
        raise UserError(
            f"{unkeyed[0]}: expected `key=value`; questions are typed once it has begun, or come by a pipe: "
            f'`echo "QUESTION" | nanollama chat {arguments[0]}`.'
        )
    trained = load_run(MemoryConfig, Path(arguments[0]), arguments[1:])
    console = Console(highlight=False)
    tokenizer = tokenizer_of(trained.config)
    with open_tool(trained.config) as tool:
        greet(console, trained)
        for line in read_lines():
            questions = questions_of(line, trained)
            for completion in answer(trained, tool, questions, console):
                show(console, completion, tokenizer)


def greet(console: Console, trained: TrainedMemory) -> None:
    """Say who is there, and what could be asked."""
    data = trained.config.data
    asked = [tool for tool, kind in TOOLS.items() if data.has(kind)]
    how = f"asks {' and '.join(asked)}" if asked else "answers by heart"
    learned = [f"{data.n_people:,} people"] if data.tells_of_people else []
    learned += [f"{data.sums.n_sums:,} sums"] if data.has("sums", "sumstool") else []
    console.print(
        f"{trained.folder}, step {trained.step}: {trained.model.n_params():,} parameters, {how}, "
        f"learned from {' and '.join(learned)}.",
        soft_wrap=True,
        markup=False,
    )
    console.print("Ask a question or give a name; 'quit' ends. Such as:")
    for label, question in example_questions(trained):
        console.print(Text.assemble("  ", (question, "bold"), f"  ({label})"), soft_wrap=True)


def example_questions(trained: TrainedMemory) -> list[tuple[str, str]]:
    """A question about somebody of each set of people, or a sum, and who or what it is."""
    data = trained.config.data
    sums = [
        ("with an operand never shown", sum_dialogs(data.sums, "unseen", "sums", 1)[0].messages[0].content)
    ]
    if not data.tells_of_people:
        return sums
    chosen = [
        *(("learned about", person) for person in _person(0, data)),
        *(("never seen", person) for person in _person(data.n_people, data)),
        *(("new names", person) for person in people(0, 1, "new")),
    ]
    texts = questions_about("{}", trained)
    asked = [(label, texts[number].format(person.name)) for number, (label, person) in enumerate(chosen)]
    return asked + (sums if data.has("sums", "sumstool") else [])


def _person(number: int, data: DataConfig) -> list[Person]:
    """That person of those a run draws from, in a list; none where there are not so many."""
    if data.dependence is None:
        return people(number, min(number + 1, N_PEOPLE))
    n_people = min(number + 1, N_DEPENDENT_PEOPLE)
    return dependent_people(data.dependence.alpha, n_people, data.dependence.seed)[number:]


def questions_of(line: str, trained: TrainedMemory) -> list[str]:
    """What a line asks: two words are a name, anything else is a question."""
    words = line.split()
    if len(words) == 2 and not line.endswith("?"):
        return questions_about(" ".join(words), trained)
    return [line]


def questions_about(name: str, trained: TrainedMemory) -> list[str]:
    """One question an attribute, worded as the model learned them."""
    templates = default_templates()
    texts = templates.qatool if trained.config.data.uses_tool else templates.qa
    return [getattr(texts, attribute).question.format(name=name) for attribute in ATTRIBUTES]


def answer(
    trained: TrainedMemory, tool: Tool | None, questions: Sequence[str], console: Console
) -> Iterator[Completion]:
    """The dialogs that follow the questions; one too long for the model is said to be."""
    tokenizer, longest = tokenizer_of(trained.config), trained.config.model.max_seq_len
    prompts = [tokenizer.encode_prompt([Message("user", question)]) for question in questions]
    fitting = [prompt for prompt in prompts if len(prompt) <= longest]
    if len(fitting) < len(prompts):
        console.print(f"Too long: the model reads {longest} tokens at most.", style=STYLES["note"])
    yield from generate(
        trained.model, tokenizer, fitting, tool, max_new_tokens=trained.config.recall.max_new_tokens
    )


def show(console: Console, completion: Completion, tokenizer: DialogTokenizer) -> None:
    """A dialog, one label and colour a part."""
    messages = tokenizer.decode_dialog(completion.ids)
    labels = {"user": "question", "database": "database"}
    console.print()
    for number, (role, content) in enumerate(messages):
        asks = role == "assistant" and [turn.role for turn in messages[number + 1 : number + 2]] == [
            "database"
        ]
        print_part(console, labels.get(role, "request" if asks else "answer"), content)
    if completion.ending in NOTES:
        print_part(console, "note", NOTES[completion.ending])


def print_part(console: Console, label: str, content: str) -> None:
    """A label and a text beside it, safe for a terminal."""
    margin = "\n" + " " * 10
    text = Text(printable(content).replace("\n", margin), STYLES[label])
    console.print(Text.assemble((f"{label:>8}  ", "dim"), text), soft_wrap=True)


def read_lines() -> Iterator[str]:
    """Lines of standard input that are not empty, up to a farewell, the end, or Ctrl-C."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # what is not text is still a question
    prompt = PROMPT if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line.lower() in FAREWELLS:
            return
        if line:
            yield line


if __name__ == "__main__":
    sys.exit(main())
