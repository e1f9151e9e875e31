"""Figures: what they draw, how they are saved, what they leave alone."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_runs import write_rows, write_run

from nanollama.errors import MissingExtraError
from nanollama.report.figures import plot_bars, plot_curves
from nanollama.report.runs import read_runs
from nanollama.report.sections import loss_pictures, measure_pictures
from nanollama.report.style import figure_style, save_figure, to_inline_svg

matplotlib = pytest.importorskip("matplotlib")

ROWS = [
    {"run": run, "step": step, "loss": scale / step, "low": 0.1, "high": 0.2}
    for run, scale in (("a", 10.0), ("b $x$ <&>", 20.0))
    for step in (1, 2, 5)
]
BARS = [
    {"run": run, "set": name, "recall": value, "low": value - 0.1, "high": 1.0}
    for run in ("x", "y")
    for name, value in (("old", 0.9), ("new", 0.5))
]


def curves(**changes: object) -> matplotlib.figure.Figure:
    arguments = {"x_label": "steps", "y_label": "loss (nats)", **changes}
    return plot_curves(ROWS, "step", "loss", **arguments)  # type: ignore[arg-type]


def test_a_figure_is_laid_out_once_for_all_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure, calls = curves(), []
    engine = figure.get_layout_engine()
    assert engine is not None
    lay_out = engine.execute
    monkeypatch.setattr(engine, "execute", lambda fig: (calls.append(fig), lay_out(fig))[1])
    to_inline_svg(figure, "a")
    places = [axes.get_position().bounds for axes in figure.axes]
    for suffix in (".svg", ".pdf", ".png"):
        save_figure(figure, tmp_path / f"a{suffix}")
    assert len(calls) == 1
    assert [axes.get_position().bounds for axes in figure.axes] == places


def test_each_series_is_a_line_through_its_rows() -> None:
    (axes,) = curves().axes
    lines = {line.get_label(): list(map(list, line.get_xydata())) for line in axes.lines}
    assert lines == {
        "a": [[1, 10], [2, 5], [5, 2]],
        "b $x$ <&>": [[1, 20], [2, 10], [5, 4]],
    }
    assert axes.get_ylabel() == "loss (nats)"


def test_a_constant_is_no_curve_and_one_run_is_drawn_once(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "one"), write_run(tmp_path / "two", recall=0.5)])
    assert [picture.name for picture in measure_pictures(runs[:1])] == ["recall_trained_by_step"]
    assert [picture.name for picture in measure_pictures(runs)] == [
        "recall_trained_by_step",
        "recall_trained_by_seconds",
    ]
    for run in runs:
        for row in run.evals:
            row.update(recall_trained=0.5, recall_trained_low=0.4, recall_trained_high=0.6)
    assert measure_pictures(runs) == ()
    assert [picture.name for picture in loss_pictures(runs[:1])] == ["loss_by_step"]


def test_noise_does_not_fill_the_axis_and_whole_numbers_have_whole_ticks() -> None:
    rows = [{"run": "a", "n_layers": n, "loss": 5 + n / 1000} for n in (1, 2)]
    (axes,) = plot_curves(rows, "n_layers", "loss", x_label="layers", y_label="loss (nats)").axes
    low, high = axes.get_ylim()
    assert high - low >= 0.5 and low < 5.001 < 5.002 < high
    assert all(tick == round(tick) for tick in axes.get_xticks())
    wide = [{"run": "a", "n_layers": n, "loss": float(n)} for n in (1, 2)]
    low, high = plot_curves(wide, "n_layers", "loss", x_label="layers", y_label="loss").axes[0].get_ylim()
    assert 0.9 < low < 1 and 2 < high < 2.1


def test_a_name_that_begins_with_an_underscore_has_its_place_in_the_legend() -> None:
    rows = [{**row, "run": f"_{row['run']}"} for row in (*ROWS, *BARS)]
    for figure, names in (
        (plot_curves(rows[: len(ROWS)], "step", "loss", x_label="x", y_label="y"), ["_a", "_b $x$ <&>"]),
        (plot_bars(rows[len(ROWS) :], "set", "recall", low="low", high="high", y_label="y"), ["_x", "_y"]),
    ):
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == names
        assert ">_" in to_inline_svg(figure, "f")


def test_series_differ_in_more_than_colour() -> None:
    (axes,) = curves().axes
    assert len({line.get_linestyle() for line in axes.lines}) == 2


def test_bands_are_drawn_where_both_ends_are_known() -> None:
    assert len(curves(low="low", high="high").axes[0].collections) == 2
    assert len(curves(low="low", high="none").axes[0].collections) == 0
    rows = [{"run": "a", "step": n, "loss": n, "low": None if n == 3 else n, "high": n + 1} for n in range(6)]
    figure = plot_curves(rows, "step", "loss", low="low", high="high", x_label="x", y_label="y")
    band = figure.axes[0].collections[0].get_paths()
    assert [{x for x, _ in part.vertices} for part in band] == [{0, 1, 2}, {4, 5}]


def test_rows_that_cannot_be_drawn_are_left_out() -> None:
    rows = [
        {"run": "a", "step": 1, "loss": 0.0},
        {"run": "a", "step": 2, "loss": None},
        {"run": "a", "step": None, "loss": 1.0},
        {"run": "a", "step": 3, "loss": float("inf")},
        {"run": "a", "step": 4, "loss": 2.0},
        {"run": "a", "step": 5},
    ]
    figure = plot_curves(rows, "step", "loss", x_label="x", y_label="y", log_y=True)
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[4, 2]]


def test_no_rows_draw_empty_axes() -> None:
    figure = plot_curves([], "step", "loss", x_label="x", y_label="y")
    assert not figure.axes[0].lines
    assert to_inline_svg(figure, "f")


def test_logarithmic_axes_are_labelled_with_plain_numbers() -> None:
    svg = to_inline_svg(curves(log_y=True), "f")
    assert ">10</text>" in svg
    assert "mathdefault" not in svg


def test_bars_stand_in_groups_with_their_intervals() -> None:
    figure = plot_bars(BARS, "set", "recall", low="low", high="high", y_label="recall")
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == [0.9, 0.5, 0.9, 0.5]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["old", "new"]
    assert {text.get_text() for text in axes.texts} == {"0.900", "0.500"}


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_equal_figures_give_equal_files(tmp_path: Path, suffix: str, start: bytes) -> None:
    contents = []
    for number in range(2):
        path = tmp_path / f"{number}{suffix}"
        save_figure(curves(), path)
        contents.append(path.read_bytes())
    assert contents[0].startswith(start)
    assert contents[0] == contents[1]


def test_an_inline_figure_is_well_formed_escaped_and_has_its_own_ids() -> None:
    svg = to_inline_svg(curves(), "f7")
    root = ElementTree.fromstring(svg)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert ids
    assert all(name.startswith("f7-") for name in ids)
    assert "b $x$ &lt;&amp;&gt;" in svg
    assert "currentColor" in svg
    assert root.get("width") is None


def test_references_of_an_inline_figure_lead_to_its_own_parts() -> None:
    svg = to_inline_svg(curves(), "f7")
    root = ElementTree.fromstring(svg)
    ids = {element.get("id") for element in root.iter()}
    targets = {
        value.removeprefix("#").removeprefix("url(#").removesuffix(")")
        for element in root.iter()
        for value in element.attrib.values()
        if value.startswith(("#f", "url(#"))
    }
    assert targets
    assert targets <= ids


def test_the_style_is_a_context() -> None:
    before = dict(matplotlib.rcParams)
    with figure_style():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert dict(matplotlib.rcParams) == before


def test_figures_are_kept_nowhere() -> None:
    from matplotlib import pyplot

    curves()
    assert pyplot.get_fignums() == []


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"'matplotlib' is not installed.*nanollama\[visu\]"):
        curves()


def test_shares_are_drawn_on_their_whole_range(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path / "share", recall=0.5), write_run(tmp_path / "other", recall=0.4)])
    assert measure_pictures(runs)[0].figure.axes[0].get_ylim() == (-0.03, 1.03)
    for folder in (tmp_path / "share", tmp_path / "other"):  # without intervals
        write_rows(folder / "evals.jsonl", [{"step": n, "test_accuracy": 0.05 * n} for n in (1, 2)])
    bare = read_runs([tmp_path / "share", tmp_path / "other"])
    assert measure_pictures(bare)[0].figure.axes[0].get_ylim() == (-0.03, 1.03)
    beyond = read_runs([write_run(tmp_path / "beyond", recall=2.0)])
    assert measure_pictures(beyond)[0].figure.axes[0].get_ylim()[1] > 2


def test_what_is_no_share_is_drawn_on_the_range_of_its_values(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    low_high = {"gap_nats_low": 0.004, "gap_nats_high": 0.023}
    write_rows(run / "evals.jsonl", [{"step": n, "gap_nats": 0.01 * n, **low_high} for n in (1, 2)])
    (picture,) = measure_pictures(read_runs([run]))
    assert picture.figure.axes[0].get_ylim()[1] < 0.03, "an interval between 0 and 1 makes no share"


def test_twenty_four_curves_are_told_apart_and_more_are_a_crowd() -> None:
    def lines_of(n_curves: int) -> list[matplotlib.lines.Line2D]:
        rows = [{"run": f"r{n}", "step": 1, "loss": n, "low": n, "high": n + 1} for n in range(n_curves)]
        labels = {"x_label": "steps", "y_label": "loss"}
        figure = plot_curves(rows, "step", "loss", low="low", high="high", **labels)
        assert len(figure.axes[0].collections) == (n_curves if n_curves <= 24 else 0)  # bands
        (legend,) = figure.legends
        assert len(legend.get_texts()) == (n_curves if n_curves <= 24 else 2)
        return list(figure.axes[0].lines)

    assert len({(line.get_color(), line.get_linestyle()) for line in lines_of(24)}) == 24
    crowd = lines_of(100)
    assert len({line.get_color() for line in crowd}) == 100
    assert {(line.get_linewidth(), line.get_marker()) for line in crowd} == {(0.8, "")}
