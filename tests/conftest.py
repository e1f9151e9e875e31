"""Settings of all tests: what takes long on a busy machine is not wrong; which run beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.browser import open_browser

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

SLURM = "tests/slurm/"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser, for the pages of a module's tests."""
    with open_browser() as opened:
        yield opened


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: those of Slurm, then others with slow tests."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (work_unit(item.nodeid) != SLURM, item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Several processes (`pytest -n 3`) share the work file by file; there is one Slurm for all its files."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return work_unit(nodeid)

    return ByFile(config, log)


def work_unit(nodeid: str) -> str:
    """What one process does alone: the tests of a file, or all that need Slurm."""
    file = nodeid.partition("::")[0]
    return SLURM if SLURM in file else file
