"""Draw sources, their kernels and entropies: ``python -m apps.gssm.show CONFIG [key=value ...]``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from apps.gssm.picture import plot_source
from apps.gssm.settings import ShowConfig
from apps.gssm.source import build_source
from nanollama.entrypoint import run_main
from nanollama.errors import UserError
from nanollama.report.style import save_figure


def run(config: ShowConfig) -> None:
    """Write a picture a source, in every format.

    Raises:
        UserError: the folder cannot be made.
    """
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {config.folder} cannot be made ({error.strerror or error}): name another `folder`."
        ) from error
    for each in config.sources:
        figure = plot_source(each.name, build_source(each), config.n_sequences)
        for suffix in config.formats:
            path = config.folder / f"{each.name}.{suffix}"
            save_figure(figure, path)
            print(f"wrote {path}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_main(ShowConfig, run, argv, "Draw sources: who sees whom, the kernels, the entropies.")


if __name__ == "__main__":
    sys.exit(main())
