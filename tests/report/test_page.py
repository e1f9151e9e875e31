"""The page: complete in itself, readable without colour or pictures, and deaf to what models write."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from report_runs import EVIL, sample_dialog, write_run

from nanollama.cli.command import main as nanollama
from nanollama.measures import show_number
from nanollama.report import default_output, main
from nanollama.report.command import save_parts
from nanollama.report.page import Picture, Section, render_page
from nanollama.report.runs import read_run
from nanollama.report.sections import examination_blocks
from nanollama.report.tables import Table

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Elements(HTMLParser):
    """Elements of a page with their attributes; refuses a tag that closes another one than the last."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    tmp_path = tmp_path_factory.mktemp("page")
    dialogs = [sample_dialog(), sample_dialog(is_right=False, answer=EVIL)]
    folders = [write_run(tmp_path / "one", dialogs=dialogs), write_run(tmp_path / "two $<b>&", d_model=64)]
    assert main([*map(str, folders), "--output", str(tmp_path / "page.html")]) == 0
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_has_every_part(page: str) -> None:
    elements = Elements(page)
    for part in ("Results", "Dialogs", "Learning curves", "Speed", "Configs and environments"):
        assert f">{part}</h2>" in page
    assert len(elements.all("table")) == 5
    assert len(elements.all("svg")) == 5


def test_what_a_model_writes_is_shown_and_not_obeyed(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<b>" not in page


def test_the_page_loads_nothing(page: str) -> None:
    elements = Elements(page)
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?!#)[^"'\s>]""", page)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert not {"link", "img", "iframe", "object"} & {tag for tag, _ in elements.elements}
    policies = [
        a["content"] for a in elements.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_page_can_be_read_aloud_and_on_a_phone(page: str) -> None:
    elements = Elements(page)
    assert elements.all("html") == [{"lang": "en"}]
    assert any(a.get("name") == "viewport" for a in elements.all("meta"))
    assert all(header.get("scope") in ("row", "col") for header in elements.all("th"))
    pictures = [a for a in elements.all("div") if a.get("role") == "img"]
    assert len(pictures) == len(elements.all("svg"))
    assert all("from" in str(picture["aria-label"]) for picture in pictures)
    assert "✓ right" in page
    assert "✗ wrong" in page
    assert "prefers-color-scheme: dark" in page


def test_every_row_is_told_by_a_title(page: str) -> None:
    titles = re.findall(r"<title>([^<]*)</title></circle>", page)
    for step in range(10, 101, 10):
        assert f"one: {show_number(100 / step)} at {step}" in titles
    assert "two $&lt;b&gt;&amp;: 0.75 at 100" in titles


def test_what_differs_stands_in_place_of_two_configs(page: str) -> None:
    rows = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', page)
    assert ("one", "32") in rows and ("two $&lt;b&gt;&amp;", "64") in rows
    assert page.count(": config.yaml</summary>") == 1


@pytest.mark.slow
def test_a_hundred_runs_fit_a_page(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"run_{n}", seed=n, recall=n / 200) for n in range(100)]
    assert main([*map(str, runs), "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert len(page) < 3e6
    assert "100 curves: point at one, or hide it" in page and "run_99: 1 at 100" in page


def test_ids_are_unique_and_links_lead_somewhere(page: str) -> None:
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(link["href"]).removeprefix("#") for link in elements.all("a")} <= set(ids)


def test_a_report_goes_into_its_run_or_beside_its_runs() -> None:
    assert default_output([Path("runs/a")]) == Path("runs/a/report.html")
    assert default_output([Path("runs/a"), Path("runs/b")]) == Path("runs/comparison.html")
    assert default_output([Path("runs/a"), Path("more/b")]) == Path("comparison.html")


def test_a_picture_wider_than_curves_keeps_its_width() -> None:
    pictures = [
        Picture(f"picture_{width}", Figure(figsize=(width, 3)), "caption", "words")
        for width in (2.0, 6.4, 11.5)
    ]
    page = render_page("title", "lead", [Section("Pictures", tuple(pictures))], "footer")
    assert [each.get("style") for each in Elements(page).all("figure")] == [None, None, "width: 11.5in"]


def test_long_cells_may_break_and_short_ones_may_not() -> None:
    long = ("a claim of more than some words", "0.1 [0.0, 0.2], 3 seeds (given)")
    tables = [Table("caption", ("claim", "found"), (row,)) for row in (long, ("a claim", "0.1 [0.0, 0.2]"))]
    page = Elements(render_page("title", "lead", [Section("Claims", tuple(tables))], "footer"))
    cells = [each for tag in ("th", "td") for each in page.all(tag) if each.get("scope") != "col"]
    assert [cell.get("class") for cell in cells] == ["long", None, "long", None]


def test_the_command_writes_page_figures_and_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "one")
    assert nanollama(["report", str(run), "--figures", str(tmp_path / "figures")]) == 0
    written = {Path(line.removeprefix("wrote ")) for line in capsys.readouterr().out.splitlines()}
    assert all(path.stat().st_size > 0 for path in written)
    names = {path.name for path in written}
    assert {"report.html", "loss_by_step.pdf", "recall_trained_by_step.svg", "speed_by_step.png"} <= names
    assert {"results_1.csv", "results_2.csv", "speed_1.csv"} <= names


def test_a_measure_may_be_called_anything_and_its_files_are_where_they_were_asked_for(tmp_path: Path) -> None:
    names = ("kl_nats/far", "kl_nats_far", "KL_nats\\far", "../escaped", "/tmp/x", "n" * 300)
    pictures = tuple(Picture(name, Figure(figsize=(2, 2)), "caption", "words") for name in names)
    written = save_parts(tmp_path / "figures", [Section("Pictures", pictures)])
    assert len({path.name.lower() for path in written}) == 3 * len(names)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {path.name for path in written}
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_what_examinations_have_found_is_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    found = run / "evaluations" / "step_00000100_abc"
    found.mkdir(parents=True)
    measures = {"recall_unseen": 0.5, "recall_unseen_low": 0.4, "recall_unseen_high": 0.6, "valid": None}
    (found / "result.json").write_text(json.dumps({"step": 100, "metrics": measures}))
    (found / "heads.csv").write_text("layer,score\n" + "".join(f"{n},{n / 1000}\n" for n in range(300)))
    (found / "empty.csv").write_text("")
    assert main([str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Examined: step_00000100_abc." in page and "0.500 [0.400, 0.600]" in page
    assert "step_00000100_abc: heads" in page and "the first 200 of 300 rows" in page
    assert "0.199" in page and "0.200<" not in page


def test_an_examination_is_shown_by_all_that_it_printed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    (run / "config.yaml").write_text("study: composition\nname: one\n")
    found = run / "evaluations" / "step_00000100_abc"
    found.mkdir(parents=True)
    measures = {"test_accuracy": 0.5, "circuit_score": 0.25, "eoi_layer": 0, "eoi_head": 3, "test/loss": 1.0}
    ends = {"test_accuracy_low": 0.4, "test_accuracy_high": None, "gap_nats": None}
    (found / "result.json").write_text(json.dumps({"step": 100, "metrics": measures | ends}))
    (table,) = examination_blocks([read_run(run)])
    assert isinstance(table, Table)
    assert ["  ".join(row) for row in table.rows] == [
        "test accuracy  0.5",
        "circuit score  0.25",
        "eoi layer  0",
        "eoi head  3",
        "gap (nats)  -",
    ]


def test_an_interval_of_which_a_row_or_an_examination_has_no_ends_is_none(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", recall=0.5)
    found = run / "evaluations" / "step_00000100_abc"
    found.mkdir(parents=True)
    no_ends = {"recall_trained_low": None, "recall_trained_high": None}
    (found / "result.json").write_text(json.dumps({"metrics": {"recall_trained": 0.125, **no_ends}}))
    first, last = (run / "evals.jsonl").read_text().splitlines()
    (run / "evals.jsonl").write_text(f"{json.dumps({**json.loads(first), **no_ends})}\n{last}\n")
    assert main([str(run)]) == 0
    page = (run / "report.html").read_text()
    assert ">0.125<" in page and "0.500 [0.450, 0.550]" in page
    assert "Recall trained by step. Bands are 95 % confidence intervals." in page


def test_a_run_that_has_just_begun_is_reported(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", finished=False)
    for name in ("metrics.jsonl", "evals.jsonl", "environment.json"):
        (run / name).unlink()
    assert main([str(run)]) == 0
    assert "unfinished" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["none"], "none: no such folder; expected the folder of a run, such as runs/debug."),
        (["run/config.yaml"], "run/config.yaml is a config, expected folders of runs; if it is of a grid"),
        ([], "The following arguments are required: RUN"),
        (["run", "--wrong"], "Unrecognized arguments: --wrong"),
        (["run", "--output", "run/config.yaml/x.html"], "Cannot write run/config.yaml/x.html"),
        (["run", "--figures", "run/config.yaml"], "Cannot write into run/config.yaml"),
    ],
)
def test_wrong_arguments_are_told(
    argv: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
