"""What a grid needs is there before its runs start."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.memory.dataset.generate import count_people
from apps.memory.dataset.paths import biographies_path, database_path, dialogs_path
from apps.memory.prepare import prepare
from apps.memory.settings import MemoryConfig
from nanollama.launcher.plan import read_plan

ROOT = Path(__file__).parents[3]


def configs(tmp_path: Path, kinds: str) -> list[MemoryConfig]:
    path = tmp_path / "grid.yaml"
    path.write_text(
        f"base: {ROOT}/apps/memory/config/debug.yaml\ndata_root: {tmp_path}/data\n"
        f"grid: {{product: {{data.n_people: [4, 9, 6], data.sources.0.kind: [{kinds}]}}}}\n"
    )
    return [run.config for run in read_plan([str(path)]).runs]  # type: ignore[misc]


def test_each_file_has_as_many_people_as_the_largest_run_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    prepare(configs(tmp_path, "qa, biographies"))
    data = tmp_path / "data"
    assert count_people(dialogs_path(data, "qa")) == 9
    assert len(biographies_path(data).read_text().splitlines()) == 9
    assert not database_path(data).exists()
    before = dialogs_path(data, "qa").stat().st_mtime_ns
    prepare(configs(tmp_path, "qa"))
    assert dialogs_path(data, "qa").stat().st_mtime_ns == before


@pytest.mark.slow
def test_runs_with_a_tool_have_their_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    prepare(configs(tmp_path, "qatool"))
    assert database_path(tmp_path / "data").is_file()
