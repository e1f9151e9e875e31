"""Talking to a trained model: what is shown, what is understood, that nothing breaks it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from toy_run import toy_config, toy_model, write_run

from apps.memory.chat import example_questions, main, print_part, questions_of, show, speaker_of
from apps.memory.dataset import sql_db
from apps.memory.dataset.dependent import N_DEPENDENT_PEOPLE, dependent_people
from apps.memory.dataset.people import Person, Population, people
from apps.memory.recall import open_tool
from apps.memory.settings import MemoryConfig
from apps.memory.sources import build_tokenizer
from nanollama.chat.conversation import Conversation
from nanollama.cli.command import main as nanollama
from nanollama.dialogs.generate import Completion
from nanollama.dialogs.tools import CalculatorConfig, CalculatorTool
from nanollama.monitor.rows import RowFile
from nanollama.tokenizer import Message
from nanollama.training.trained import Trained, load_run

PERSON = people(0, 1)[0]


@pytest.fixture(scope="module")
def in_weight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = toy_config(tmp_path_factory.mktemp("in_weight"), "qa")
    return write_run(config, toy_model(config, 100))


@pytest.fixture(scope="module")
def in_tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data root holds the database of all people."""
    config = toy_config(tmp_path_factory.mktemp("in_tool"))
    return write_run(config, toy_model(config, 160))


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What is typed, as bytes: to be filled and rewound before the chat."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))
    return raw


def chat(folder: Path, typed: io.BytesIO, text: str | bytes, *keys: str) -> int:
    typed.write(text.encode() if isinstance(text, str) else text)
    typed.seek(0)
    return main([str(folder), *keys])


def test_a_question_and_its_answer(
    in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(in_weight, typed, f"Where was {PERSON.name} born?\n") == 0
    said, warned = capsys.readouterr()
    assert "step 100: " in said and "answers by heart, learned from 2 people." in said
    assert f"question  Where was {PERSON.name} born?\n" in said
    assert f"  answer  {PERSON.name} was born in {PERSON.birth_place}.\n" in said
    assert warned == "" and "\x1b" not in said and "ask>" not in said


def test_a_name_asks_for_everything(
    in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(in_weight, typed, f"  {PERSON.name} \n") == 0
    said = capsys.readouterr().out
    assert said.count("  answer  ") == said.count("question  ") == 4
    for fact in PERSON[2:]:
        assert f" {fact}.\n" in said


@pytest.mark.slow
def test_a_request_and_its_reply(
    in_tool: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(in_tool, typed, f"What does {PERSON.name} do for a living?\n") == 0
    said = capsys.readouterr().out
    assert "asks a database, learned from 2 people." in said
    parts = [line[:10].strip() for line in said.splitlines() if line[:10].strip() and line[0] == " "]
    assert f"          FIND occupation FOR {PERSON.name}\n" in said
    assert f"database  {PERSON.occupation}\n" in said
    assert f"  answer  {PERSON.name} works as a {PERSON.occupation}.\n" in said
    assert parts[-3:] == ["request", "answer", "right"]


def test_on_a_page_the_truth_stands_beside_it(in_tool: Path) -> None:
    trained = load_run(MemoryConfig, in_tool)
    with open_tool(trained.config) as tool:
        conversation = Conversation(speaker_of(trained, tool))
        assert conversation.about()["introduction"].endswith("asks a database, learned from 2 people.")
        dialogs = conversation.ask(PERSON.name)
    assert [dialog["verdict"]["truth"] for dialog in dialogs] == list(PERSON[2:])
    (right,) = [dialog for dialog in dialogs if "living" in dialog["question"]]
    assert right["verdict"] == {"truth": PERSON.occupation, "about": "learned about", "is_right": True}
    assert [part["who"] for part in right["parts"]] == ["question", "request", "database", "answer"]
    said = "".join(token["text"] for token in right["parts"][2]["tokens"])
    assert said == f"{PERSON.occupation}<assistant>"


REQUEST = "I will look it up.\n```\nFIND birth_place FOR Gien"


def test_a_request_that_came_to_no_end_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    ids = build_tokenizer().encode_dialog([Message("user", "?"), Message("assistant", REQUEST)]).ids.tolist()
    tool = CalculatorTool(CalculatorConfig(), "database")
    show(Console(), Completion(ids, ending="end"), build_tokenizer(), tool)
    said = capsys.readouterr().out
    assert " request  I will look it up." in said and "answer" not in said
    assert "    note  not asked: the model ended the dialog in the middle of its request\n" in said


def test_under_an_answer_stands_whether_it_is_right(
    in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = people(5, 6)[0]
    assert chat(in_weight, typed, f"{PERSON.name}\n{stranger.name}\nWho was born?\n") == 0
    said = capsys.readouterr().out
    assert said.count("   right  (learned about)\n") == 4
    for fact in stranger[2:]:
        assert f"   wrong  it is {fact} (never seen)\n" in said
    assert "right" not in said.rpartition("Who was born?")[2]


def test_what_it_knows_is_said_before(
    in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    evals = RowFile(in_weight / "evals.jsonl")
    for step, share in ((50, 0.5), (100, 0.0625)):  # the checkpoint is of step 100
        evals.append({"step": step, "recall_trained": 1.0, "recall_unseen": share, "recall_trained_low": 0.9})
    assert chat(in_weight, typed, "") == 0
    measured = "people learned about 100 %, people never seen 6 %.\n"
    assert f"from 2 people. Right answers, as measured: {measured}" in capsys.readouterr().out
    evals.path.write_text("no row\n" * 3)
    assert chat(in_weight, typed, "") == 0
    evals.path.unlink()


def test_a_chat_makes_no_larger_database_than_the_training(
    tmp_path: Path, typed: io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path)
    made: list[int] = []

    def noted(start: int, stop: int, population: Population) -> list[Person]:
        made.append(stop)
        return people(start, min(stop, 4), population)

    monkeypatch.setattr(sql_db, "people", noted)
    chat(write_run(config, toy_model(config)), typed, "")
    assert max(made) == 4


def test_the_calculator_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    turns = [Message("user", "?"), Message("assistant", "```\nCALC 2+3\n```"), Message("database", "5")]
    ids = build_tokenizer().encode_dialog([*turns, Message("assistant", "5.")]).ids.tolist()
    tool = CalculatorTool(CalculatorConfig(), "database")
    show(Console(), Completion(ids, ending="end"), build_tokenizer(), tool)
    said = capsys.readouterr().out
    assert "calculator  5\n" in said and "database" not in said


@pytest.mark.parametrize("farewell", ["quit", "EXIT ", "Quit\nWhen was it?"])
def test_a_farewell_ends_it(
    farewell: str, in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(in_weight, typed, f"\n   \n{farewell}\n") == 0
    assert "question" not in capsys.readouterr().out.split("Such as:")[1]


def test_ctrl_c_ends_it(in_weight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", interrupted)
    assert main([str(in_weight)]) == 0


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe\x00\x1b[2J what?",
        b"?",
        b"[bold]markup[/nothing]",
        "naïve 🙂?".encode(),
        b"{} {name}",
        b"a" * 400,
    ],
    ids=["no text", "one character", "markup", "beyond ASCII", "braces", "long"],
)
def test_whatever_is_typed_is_a_question(
    line: bytes, in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(in_weight, typed, line + b"\n") == 0
    said, warned = capsys.readouterr()
    assert warned == "" and "\x1b" not in said
    assert said.count("question  ") >= 1
    assert " answer  " in said or "cut off: the model did not come to an end" in said


def test_a_question_can_be_too_long(
    in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(in_weight, typed, "a" * 600 + "\n" + "a" * 511 + "\n" + "a" * 510 + "\n") == 0
    said = capsys.readouterr().out
    assert said.count("Too long: the model reads 512 tokens at most.") == 2
    assert said.count("question  ") == 1


def test_examples_are_of_every_kind(
    in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(in_weight, typed, "") == 0
    said = capsys.readouterr().out
    assert f"  When was {PERSON.name} born?  (learned about)\n" in said
    assert f"  Where was {people(2, 3)[0].name} born?  (never seen)\n" in said
    assert f"  Where does {people(0, 1, 'new')[0].name} live?  (new names)\n" in said


def test_examples_where_facts_depend_on_the_last_name_are_of_those_people(tmp_path: Path) -> None:
    """They have the names of other people, so others are known."""
    for n_people, labels in (
        (200, {"learned about", "never seen", "new names"}),
        (N_DEPENDENT_PEOPLE, {"learned about", "new names"}),
    ):
        data = {"n_people": n_people, "sources": [{"kind": "qa"}], "dependence": {"alpha": 0.5, "seed": 1}}
        config = toy_config(tmp_path, data=data, recall={"n_people": 1, "sets": ["trained"]})
        examples = example_questions(
            Trained(tmp_path, config, toy_model(toy_config(tmp_path)), tmp_path, 0, "")
        )
        learned = [person.name for person in dependent_people(0.5, n_people, 1)]
        assert {label for label, _ in examples} == labels
        for label, question in examples:
            is_learned = any(f" {name} " in question for name in learned)
            assert is_learned == (label == "learned about")


def test_two_words_are_a_name(in_weight: Path) -> None:
    trained = load_run(MemoryConfig, in_weight)
    assert questions_of("Ann  Bell", trained)[1] == "Where was Ann Bell born?"
    for line in ("Who else?", "Where was Ann Bell born", "Ann"):
        assert questions_of(line, trained) == [line]


def test_colours_of_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    print_part(Console(force_terminal=True, color_system="standard"), "database", "Chile\nPeru")
    assert "\x1b[36mChile\x1b[0m\n\x1b[36m          Peru" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "A run is missing.\nusage: nanollama chat RUN [key=value"),
        (["{run}", "--web", "--port", "x"], "Argument --port: invalid int value: 'x'."),
        (["{run}", "--web", "--port", "99999"], "Port 99999 of 127.0.0.1 cannot be used"),
        (["{run}", "--wep"], "Unrecognized arguments: --wep.\nusage: nanollama chat RUN "),
        (["runs/nowhere"], "There is no run folder runs/nowhere: train it first"),
        (["{run}", "nonsense=1"], "command line: nonsense=1: unknown key"),
        (["{run}", "model.d_model=8"], "does not fit the model"),
    ],
)
def test_refusals(
    arguments: list[str], message: str, in_weight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.format(run=in_weight) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "usage:" in (said := capsys.readouterr().out) and "data_root=DIR, training.device=cpu" in said


def test_through_the_command(
    in_weight: Path, typed: io.BytesIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    typed.write(b"Who?\n")
    typed.seek(0)
    assert nanollama(["chat", str(in_weight), "training.device=cpu"]) == 0
    assert "question  Who?" in capsys.readouterr().out
