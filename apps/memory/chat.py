"""Ask a trained model and watch what it says to the database: ``nanollama chat RUN [key=value ...]``.

Questions come from standard input, one a line. Two words are taken for a name: all four questions about that
person are asked. ``quit`` or the end of the input ends it. ``--web`` serves a page for that instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from apps.memory.data_settings import DataConfig, SourceKind
from apps.memory.dataset.dependent import N_DEPENDENT_PEOPLE, dependent_people
from apps.memory.dataset.people import ATTRIBUTES, N_PEOPLE, Person, people
from apps.memory.dataset.templates import default_templates
from apps.memory.recall import TrainedMemory, is_answered, open_tool
from apps.memory.settings import MemoryConfig
from apps.memory.sources import tokenizer_of
from apps.memory.sums import sum_dialogs
from apps.memory.truth import LEARNED, NEW, UNSEEN, known_about
from nanollama.chat.conversation import note_of
from nanollama.chat.reading import QUESTION, REQUEST, last_turn
from nanollama.chat.server import ChatServer
from nanollama.chat.speaker import Speaker, Verdict
from nanollama.dialogs.generate import Completion, generate
from nanollama.dialogs.tools import Tool
from nanollama.entrypoint import Parser, guard
from nanollama.errors import UserError
from nanollama.monitor.rows import RowFile
from nanollama.monitor.run_folder import EVALS
from nanollama.tokenizer import DialogTokenizer, Message
from nanollama.training.trained import load_run
from nanollama.wording import printable

ARGUMENTS = """RUN [key=value ...] [--web [--port N]]

  RUN          the folder of a run, or of one of its checkpoints
  key=value    another value for a key of the run: data_root=DIR, training.device=cpu, database.url=URL,
               recall.max_new_tokens=N
  --web        asked on a page, at port N of this machine; 0: any that is free"""
FAREWELLS = frozenset({"quit", "exit"})
TOOLS: dict[str, SourceKind] = {"a database": "qatool", "a calculator": "sumstool"}
SETS = {
    "trained": f"people {LEARNED}",
    "unseen": f"people {UNSEEN}",
    "new_names": f"people of {NEW}",
    "sums_unseen": "sums with operands never shown",
}
"""Of an examination, in the words of the examples."""
STYLES = {
    "question": "bold",
    "request": "yellow",
    "database": "cyan",
    "calculator": "cyan",
    "answer": "green",
    "note": "red",
    "right": "green",
    "wrong": "red",
}
PROMPT = "ask> "


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return guard(lambda: chat(list(sys.argv[1:] if argv is None else argv)))


def chat(arguments: Sequence[str]) -> None:
    """Answer line after line, or serve a page on which that is done.

    Args:
        arguments: the run, keys that shall be other than the run's (``data_root``), ``--web`` and its port.

    Raises:
        UserError: there is no such run, its database cannot be used, or the port is taken.
    """
    if {"--help", "-h"}.intersection(arguments):
        print(usage())
        return
    given = _parse(arguments)
    trained = load_run(MemoryConfig, Path(given.run), given.keys)
    with open_tool(trained.config, grows=True) as tool:
        if given.web:
            with ChatServer(speaker_of(trained, tool), given.port) as server:
                server.serve(f"asking {trained.folder}")
            return
        console = Console(highlight=False)
        tokenizer = tokenizer_of(trained.config)
        greet(console, trained)
        for line in read_lines():
            questions = questions_of(line, trained)
            for question, completion in answer(trained, tool, questions, console):
                show(console, completion, tokenizer, tool)
                if (verdict := judge(trained, tokenizer, question, completion)) is not None:
                    print_verdict(console, verdict)


def usage() -> str:
    """How to call the command that was typed: this module, or the verb of `nanollama`."""
    module = getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", "")
    program = f"python -m {module}" if module == "apps.memory.chat" else "nanollama chat"
    return f"usage: {program} {ARGUMENTS}"


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(hint=f".\n{usage()}", add_help=False)
    parser.add_argument("run", nargs="?")
    parser.add_argument("keys", nargs="*")
    parser.add_argument("--web", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_intermixed_args(arguments)
    if given.run is None:
        parser.error("a run is missing")
    if unkeyed := [argument for argument in given.keys if "=" not in argument]:
        raise UserError(
            f"{unkeyed[0]}: expected `key=value`; questions are typed once it has begun, or come by a pipe: "
            f'`echo "QUESTION" | nanollama chat {given.run}`.'
        )
    return given


def speaker_of(trained: TrainedMemory, tool: Tool | None) -> Speaker:
    """The model of a run, to be asked on a page."""
    tokenizer = tokenizer_of(trained.config)
    return Speaker(
        introduction(trained),
        example_questions(trained),
        trained.model,
        tokenizer,
        tool,
        trained.config.recall.max_new_tokens,
        lambda line: questions_of(line, trained),
        lambda question, completion: judge(trained, tokenizer, question, completion),
    )


def judge(
    trained: TrainedMemory, tokenizer: DialogTokenizer, question: str, completion: Completion
) -> Verdict | None:
    """What is true of a question, and whether the dialog that came of it says so; None where nobody knows."""
    known = known_about(question, trained.config)
    if known is None:
        return None
    messages = tokenizer.decode_dialog(completion.ids)
    is_right = completion.ending == "end" and is_answered(known.dialog, messages)
    return Verdict(known.dialog.answer, known.about, is_right)


def introduction(trained: TrainedMemory) -> str:
    """Who is there."""
    data = trained.config.data
    asked = [tool for tool, kind in TOOLS.items() if data.has(kind)]
    how = f"asks {' and '.join(asked)}" if asked else "answers by heart"
    learned = [f"{data.n_people:,} people"] if data.tells_of_people else []
    learned += [f"{data.sums.n_sums:,} sums"] if data.has("sums", "sumstool") else []
    return (
        f"{trained.folder}, step {trained.step}: {trained.model.n_params():,} parameters, {how}, "
        f"learned from {' and '.join(learned)}.{measured(trained)}"
    )


def measured(trained: TrainedMemory) -> str:
    """How often it was right when its run examined it, in a sentence; nothing where it was not."""
    rows = []
    with suppress(UserError):  # a damaged file is for reports to tell
        rows = [row for row in RowFile(trained.folder / EVALS).read() if row["step"] == trained.step]
    shares = [
        f"{label} {100 * share:.0f} %"
        for name, label in SETS.items()
        if rows and isinstance(share := rows[-1].get(f"recall_{name}"), float)
    ]
    return f" Right answers, as measured: {', '.join(shares)}." if shares else ""


def greet(console: Console, trained: TrainedMemory) -> None:
    """Say who is there, and what could be asked."""
    console.print(introduction(trained), soft_wrap=True, markup=False)
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
        *((LEARNED, person) for person in _person(0, data)),
        *((UNSEEN, person) for person in _person(data.n_people, data)),
        *((NEW, person) for person in people(0, 1, "new")),
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
) -> Iterator[tuple[str, Completion]]:
    """Questions, and the dialogs that follow; one too long for the model is said to be."""
    tokenizer, longest = tokenizer_of(trained.config), trained.config.model.max_seq_len
    prompts = [(question, tokenizer.encode_prompt([Message("user", question)])) for question in questions]
    fitting = {question: prompt for question, prompt in prompts if len(prompt) <= longest}
    if len(fitting) < len(prompts):
        console.print(f"Too long: the model reads {longest} tokens at most.", style=STYLES["note"])
    limit = trained.config.recall.max_new_tokens
    written = generate(trained.model, tokenizer, list(fitting.values()), tool, max_new_tokens=limit)
    yield from zip(fitting, written, strict=True)


def show(console: Console, completion: Completion, tokenizer: DialogTokenizer, tool: Tool | None) -> None:
    """A dialog, one label and colour a part."""
    messages = tokenizer.decode_dialog(completion.ids)
    console.print()
    label = QUESTION
    for number, (role, content) in enumerate(messages):
        label = QUESTION
        if role == "assistant":
            followed = [turn.role for turn in messages[number + 1 : number + 2]]
            is_asked = tool is not None and followed == [tool.role]
            label = REQUEST if is_asked else last_turn(content, tool)
        elif role != "user":
            label = role if tool is None else tool.who(messages[number - 1].content)
        print_part(console, label, content)
    if note := note_of(completion.ending, label):
        print_part(console, "note", note)


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Whether the answer above is right, and what is true if it is not."""
    label, truth = ("right", "") if verdict.is_right else ("wrong", f"it is {verdict.truth} ")
    print_part(console, label, f"{truth}({verdict.about})")


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
