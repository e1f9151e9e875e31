"""Data files: whole or not there, never changed behind the user's back; wrong input is one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from apps.memory.dataset import generate
from apps.memory.dataset.dialogs import make_dialog
from apps.memory.dataset.files import write_lines
from apps.memory.dataset.lines import biography_line, dialog_line, person_line
from apps.memory.dataset.paths import biographies_path, dialogs_path, people_path
from apps.memory.dataset.people import ATTRIBUTES, N_PEOPLE, people
from nanollama.errors import UserError

REPOSITORY = Path(__file__).parents[3]
SCRIPT = REPOSITORY / "apps/memory/scripts/generate_data.sh"
SQL = ["--tooluse", "--language", "sql"]
NEW = ["--population", "new"]


@pytest.fixture
def command(tmp_path, capsys):
    """Run the command on a data root in a temporary folder: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = generate.main([*arguments, "--root", str(tmp_path)])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.mark.parametrize(
    ("arguments", "name", "kind", "language", "population"),
    [
        (["qa"], "qa.jsonl", "qa", "find", "train"),
        (["qa", "--tooluse"], "qatool.jsonl", "qatool", "find", "train"),
        (["qa", *SQL], "qatool_sql.jsonl", "qatool", "sql", "train"),
        (["qa", *NEW], "new_qa.jsonl", "qa", "find", "new"),
        (["qa", *SQL, *NEW], "new_qatool_sql.jsonl", "qatool", "sql", "new"),
    ],
)
def test_dialogs_by_person_then_attribute(command, tmp_path, arguments, name, kind, language, population):
    code, output, errors = command(*arguments, "--num", "3")
    path = tmp_path / "memory" / name
    assert path == dialogs_path(tmp_path, kind, language, population)
    assert (code, errors) == (0, "")
    assert re.fullmatch(
        rf"wrote {re.escape(str(path))}: 12 lines, \d\.\d kB, \d\.\d s, sha256 \w{{12}}\n", output
    )
    expected = [
        dialog_line(make_dialog(person, attribute, kind, language))
        for person in people(0, 3, population)
        for attribute in ATTRIBUTES
    ]
    assert path.read_text(encoding="utf-8") == "".join(expected)


def test_people_and_biographies(command, tmp_path):
    assert command("people", "--num", "2")[0] == 0
    assert people_path(tmp_path).read_text() == "".join(map(person_line, people(0, 2)))
    assert command("biographies", "--num", "2", *NEW)[0] == 0
    path = biographies_path(tmp_path, "new")
    assert path.name == "new_biographies.jsonl"
    assert path.read_text() == "".join(map(biography_line, people(0, 2, "new")))


def test_everybody_by_default(command, tmp_path):
    assert "169,556 lines" in command("people")[1]
    assert generate.count_people(people_path(tmp_path)) == N_PEOPLE


def test_chunks_join_without_a_seam(command, tmp_path, monkeypatch):
    command("qa", "--num", "10")
    whole = dialogs_path(tmp_path, "qa").read_bytes()
    monkeypatch.setattr(generate, "_N_PEOPLE_A_CHUNK", 3)
    code, output, _ = command("qa", "--num", "10")
    assert code == 0
    assert output.startswith("kept (nothing to change)")
    assert dialogs_path(tmp_path, "qa").read_bytes() == whole


def test_more_people_extend_a_file_and_fewer_keep_it(command, tmp_path):
    path = people_path(tmp_path)
    command("people", "--num", "3")
    three = path.read_bytes()
    assert command("people", "--num", "7")[1].startswith("wrote")
    seven = path.read_bytes()
    assert seven.startswith(three)
    code, output, _ = command("people", "--num", "3")
    assert code == 0
    assert "it holds the 3 lines asked for and more; add --overwrite to cut it" in output
    assert path.read_bytes() == seven
    assert command("people", "--num", "3", "--overwrite")[1].startswith("wrote")
    assert path.read_bytes() == three


def test_an_edited_file_is_refused(command, tmp_path):
    command("qa", "--num", "5")
    path = dialogs_path(tmp_path, "qa")
    lines = path.read_text().splitlines(keepends=True)
    lines[6] = lines[6].replace("live", "dwell")
    path.write_text("".join(lines))
    for n_people in ("2", "5", "9"):
        code, _, errors = command("qa", "--num", n_people)
        assert code == 2
        assert re.fullmatch(
            r".*qa\.jsonl:7: differs from what would be written, .* --overwrite .*\.\n", errors
        )
        assert path.read_text() == "".join(lines)
    assert command("qa", "--num", "5", "--overwrite")[0] == 0
    assert "dwell" not in path.read_text()


def test_other_line_ends_are_an_edit(command, tmp_path):
    command("people", "--num", "1")
    path = people_path(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    code, _, errors = command("people", "--num", "1")
    assert code == 2
    assert "people.jsonl:1: differs" in errors


def test_a_file_cut_within_a_line_is_completed(command, tmp_path):
    command("people", "--num", "3")
    path = people_path(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert command("people", "--num", "3")[1].startswith("wrote")
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["people", "--num", "0"], r"Argument --num: expected a number of people from 1 to 169,556, got '0'"),
        (["people", "--num", "169557"], r"from 1 to 169,556, got '169557'"),
        (["people", "--num", "-3"], r"from 1 to 169,556, got '-3'"),
        (["people", "--num", "ten"], r"from 1 to 169,556, got 'ten'"),
        (["people", "--num", "9" * 5000], r"from 1 to 169,556, got '9+'"),
        (["people", "--number", "3"], r"Unrecognized arguments: --number 3"),
        (["poems"], r"invalid choice: 'poems' \(choose from .*people.*biographies.*qa"),
        ([], r"The following arguments are required: people\|biographies\|qa"),
        (["qa", "--tooluse", "--language", "prolog"], r"Argument --language: invalid choice: 'prolog'"),
        (["qa", "--language", "sql"], r"--language is the language of requests .*; add --tooluse\."),
        (["qa", "--population", "old"], r"Argument --population: invalid choice: 'old'"),
        (["people", "--tooluse"], r"Unrecognized arguments: --tooluse"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert generate.main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert re.search(message, output.err)
    assert output.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_root_that_is_a_file_is_refused(tmp_path, capsys):
    root = tmp_path / "data"
    root.write_text("mine")
    assert generate.main(["people", "--num", "3", "--root", str(root)]) == 2
    assert re.fullmatch(
        r"Cannot write .*: Not a directory; the data root must .*\.\n", capsys.readouterr().err
    )
    assert root.read_text() == "mine"


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, capsys):
    people_path(tmp_path).mkdir(parents=True)
    for options in ([], ["--overwrite"]):
        assert generate.main(["people", "--num", "3", "--root", str(tmp_path), *options]) == 2
        assert "Cannot write" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "memory").iterdir()] == ["people.jsonl"]


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = subprocess.run(
        [sys.executable, "-m", generate.__name__, "people", "--root", str(tmp_path)],
        cwd=REPOSITORY,
        preexec_fn=no_large_files,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert re.fullmatch(r"Cannot write .*people\.jsonl: File too large; .*\.\n", result.stderr)
    assert not list((tmp_path / "memory").iterdir())


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_failure_midway_leaves_the_old_file(tmp_path, failure):
    path = tmp_path / "lines"
    path.write_bytes(b"1\n")

    def chunks():
        yield b"1\n2\n"
        raise failure

    with pytest.raises(failure):
        write_lines(path, chunks())
    assert path.read_bytes() == b"1\n"
    assert list(tmp_path.iterdir()) == [path]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_progress_bar_on_a_terminal_only(command, tmp_path, monkeypatch):
    assert command("people", "--num", "5")[2] == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert generate.main(["people", "--num", "5000", "--root", str(tmp_path)]) == 0
    assert "people.jsonl" in terminal.getvalue()


def test_ensure_dialogs_writes_what_is_missing_and_says_so(tmp_path, capsys):
    path = generate.ensure_dialogs(tmp_path, "qatool", "sql", "new", 3)
    assert path == dialogs_path(tmp_path, "qatool", "sql", "new")
    assert re.fullmatch(r"wrote .*new_qatool_sql\.jsonl: 12 lines, .*\n", capsys.readouterr().out)
    before = path.stat()
    assert generate.ensure_dialogs(tmp_path, "qatool", "sql", "new", 2) == path
    assert capsys.readouterr().out == ""
    assert path.stat() == before


@pytest.mark.parametrize(
    ("kind", "language", "population"), [("qa", "find", "train"), ("qatool", "sql", "new")]
)
def test_a_short_file_is_made_longer_and_never_shorter(tmp_path, kind, language, population):
    path = generate.ensure_dialogs(tmp_path, kind, language, population, 3)
    begun = path.read_bytes()
    for n_people, n_there in ((10, 10), (4, 10)):
        generate.ensure_dialogs(tmp_path, kind, language, population, n_people)
        assert generate.count_people(path) == n_there
        assert path.read_bytes().startswith(begun)


def test_biographies_are_made_longer_too(tmp_path, capsys):
    for n_people, n_there in ((3, 3), (5, 5), (2, 5)):
        path = generate.ensure_biographies(tmp_path, n_people)
        assert path.read_text() == "".join(map(biography_line, people(0, n_there)))
    assert capsys.readouterr().out.count("wrote") == 2


def test_a_short_file_of_somebody_else_is_left_as_it_is(tmp_path):
    path = generate.ensure_dialogs(tmp_path, "qa", "find", "train", 3)
    path.write_text(mine := path.read_text().replace("live", "dwell"))
    with pytest.raises(UserError, match=r"qa\.jsonl:\d+: differs from what would be written"):
        generate.ensure_dialogs(tmp_path, "qa", "find", "train", 4)
    assert path.read_text() == mine


def test_of_many_who_make_a_file_longer_at_once_none_makes_it_shorter(tmp_path, monkeypatch):
    """Each looks at a short file, then writes: the last to write is the one that wants least."""
    path = generate.ensure_dialogs(tmp_path, "qa", "find", "train", 1)
    lines, have_looked = generate.render, threading.Barrier(4)

    def render(pattern, known):
        with contextlib.suppress(threading.BrokenBarrierError):
            have_looked.wait(0.2)  # all four, where nobody waits until another has written
        time.sleep((40 - len(known)) / 200)
        return lines(pattern, known)

    monkeypatch.setattr(generate, "render", render)
    threads = [
        threading.Thread(target=generate.ensure_dialogs, args=(tmp_path, "qa", "find", "train", n_people))
        for n_people in (40, 30, 20, 10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert generate.count_people(path) == 40


@pytest.mark.parametrize(
    "last_line", ['{"person": 3, "attri', "[3]", '{"people": 3}', '{"person": "three"}', "3"]
)
def test_a_damaged_last_line_is_refused(tmp_path, last_line):
    path = generate.ensure_dialogs(tmp_path, "qa", "find", "train", 3)
    with open(path, "a") as file:
        file.write(last_line)
    with pytest.raises(UserError, match=r"qa\.jsonl: the last line is not JSON with a key 'person'"):
        generate.ensure_dialogs(tmp_path, "qa", "find", "train", 3)


def test_count_people(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    assert generate.count_people(path) == 0
    path.write_text("\n".join(json.dumps({"person": index, "text": "x" * 100}) for index in range(2000)))
    assert generate.count_people(path) == 2000
    with pytest.raises(UserError, match=r"Cannot read .*: No such file"):
        generate.count_people(tmp_path / "none")


def run_script(*arguments: str, answer: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", SCRIPT, *arguments], input=answer, cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"Expected a number of people, got ''; usage: generate_data\.sh N"),
        (["many"], r"Expected a number of people, got 'many'; usage"),
        (["3", "4"], r"Expected one number of people, got '3' and '4'; usage"),
        (["3", "--no"], r"Unknown option '--no'; usage"),
        (["3", "--root"], r"--root needs a folder; usage"),
    ],
)
def test_wrong_arguments_of_the_script(tmp_path, arguments, message):
    result = run_script(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert re.match(message, result.stderr)
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_script_passes_on_what_the_generator_refuses(tmp_path):
    result = run_script("200000", "--yes", cwd=tmp_path)
    assert result.returncode == 2
    assert "from 1 to 169,556, got '200000'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "answer", "makes_database"),
    [([], "y\n", True), ([], "yes", True), ([], "n\n", False), ([], "", False), (["--yes"], "", True)],
)
def test_the_script_asks_before_it_makes_the_database(tmp_path, options, answer, makes_database):
    result = run_script("10", *options, answer=answer, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert ("[y/N]" in result.stdout) == (not options)
    names = {"people.jsonl", "biographies.jsonl", "qa.jsonl", "qatool.jsonl"}
    names |= {"people.sqlite"} if makes_database else set()
    assert {path.name for path in (tmp_path / "data" / "memory").iterdir()} == names
