"""The page of a run: ``nanollama report gap RUN``.

Writes ``gap.html`` into the run folder, and its pictures and tables into ``gap/``: the source, the model
beside its exact floor by position, what its layers tell of each latent, what a slow node's switch does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from apps.gssm.eval import Examination, examine
from apps.gssm.examination import Row
from apps.gssm.picture import source_picture
from apps.gssm.settings import GssmConfig
from nanollama.entrypoint import guard
from nanollama.errors import UserError
from nanollama.measures import is_number, show_interval
from nanollama.report.command import save_parts, write_page
from nanollama.report.figures import plot_curves
from nanollama.report.page import Block, Picture, Section, Words
from nanollama.report.tables import Table
from nanollama.training.trained import load_run

N_SEQUENCES = 512
USAGE = "usage: nanollama report gap RUN"


def run(path: Path) -> None:
    """Write the page of a run.

    Raises:
        UserError: there is no such run.
    """
    trained = load_run(GssmConfig, path)
    found = examine(trained, N_SEQUENCES)
    summary = found.summary
    lead = f"{trained.checkpoint.name}: loss {summary['loss_nats']:.4f} nats a symbol"
    if "gap_nats" in summary:
        lead += f", floor {summary['floor_nats']:.4f}, gap {summary['gap_nats']:.4f}"
        if is_number(summary["gap_nats_low"]):  # not where all sequences are one
            lead += f" [{summary['gap_nats_low']:.4f}, {summary['gap_nats_high']:.4f}]"
    sections = [
        Section("Source", (source_picture(trained.config.name, found.source, N_SEQUENCES),)),
        Section("By position", position_blocks(found)),
        Section("Latents", latent_blocks(found)),
        Section("After a switch", switch_blocks(found)),
    ]
    write_page(trained.folder / "gap.html", f"Gap of {trained.config.name}", f"{lead}.", sections)
    save_parts(trained.folder / "gap", sections)
    print(f"wrote {trained.folder / 'gap.html'} and {trained.folder / 'gap'}")


def position_blocks(found: Examination) -> tuple[Block, ...]:
    """Loss and floor, and the divergence between them, by position."""
    rows = found.tables["positions"]
    lines = [("loss", "loss_nats")] + ([("exact floor", "floor_nats")] if "floor_nats" in rows[0] else [])
    points = [
        {"run": label, "position": row["position"] + 1, "nats": row[key]}
        for label, key in lines
        for row in rows
    ]
    figure = plot_curves(
        points, "position", "nats", x_label="symbols seen", y_label="nats a symbol", log_x=True
    )
    caption = "What the next symbol costs, by the number of symbols seen."
    pictures = [Picture("loss_by_position", figure, caption, caption)]
    if "kl_nats" in rows[0]:
        pictures.append(_curve(rows, "position", "symbols seen", "kl_by_position", "the model", 1))
    return tuple(pictures)


def latent_blocks(found: Examination) -> tuple[Block, ...]:
    """A table of what each place tells of each latent; a dash where nothing varies."""
    rows = found.tables.get("latents", [])
    if not rows:
        if found.source.graph.has_floor:
            return (Words("The source has no latents that could be in more than one state."),)
        return (Words("Nothing exact is known of the latents of this source."),)
    places = list(dict.fromkeys(row["place"] for row in rows))
    share = {(row["latent"], row["place"]): row["recovery"] for row in rows}
    latents = list(dict.fromkeys(row["latent"] for row in rows))
    body = tuple((latent, *(show_interval(share[latent, place]) for place in places)) for latent in latents)
    caption = "Share of the variance of a latent's exact posterior that a linear map of each place explains."
    return (Table(caption, ("latent", *places), body),)


def switch_blocks(found: Examination) -> tuple[Block, ...]:
    """The divergence by steps since each slow node moved."""
    rows = found.tables.get("switches", [])
    names = list(dict.fromkeys(row["node"] for row in rows))
    if not rows:
        return (Words("The source has no slow node whose switches could be followed."),)
    return tuple(
        _curve(
            [row for row in rows if row["node"] == name],
            "steps_since_switch",
            f"steps since {name} moved",
            f"switch_{name}",
            name,
            0,
        )
        for name in names
    )


def _curve(rows: Sequence[Row], x: str, x_label: str, name: str, line: str, first: int) -> Picture:
    points = [
        {
            "run": line,
            "place": row[x] + first,
            "mean": row["kl_nats"],
            "low": row["kl_nats_low"],
            "high": row["kl_nats_high"],
        }
        for row in rows
    ]
    figure = plot_curves(
        points,
        "place",
        "mean",
        low="low",
        high="high",
        x_label=x_label,
        y_label="divergence, nats",
        log_x=first > 0,
    )
    ends = f"from {rows[0]['kl_nats']:.4f} to {rows[-1]['kl_nats']:.4f} nats"
    return Picture(
        name,
        figure,
        f"Divergence from the exact distribution by {x_label}; bands are 95 % intervals.",
        f"{line}: {ends}.",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)

    def work() -> None:
        if len(arguments) != 1:
            raise UserError(USAGE)
        run(Path(arguments[0]))

    return guard(work)


if __name__ == "__main__":
    sys.exit(main())
