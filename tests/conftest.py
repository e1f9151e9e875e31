"""Settings of all tests: what takes long on a busy machine is not wrong; which run beside each other."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several processes share the work file by file, all tests of one Slurm together, slow files first."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    groups = {item: "slurm" if item.path.parent.name == "slurm" else str(item.path) for item in items}
    slow = {group for item, group in groups.items() if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (groups[item] != "slurm", groups[item] not in slow))  # keeps order otherwise
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
