"""What this machine and this installation can do, for ``nanollama doctor`` and for bug reports."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import nanollama
from nanollama.monitor.environment import version_of
from nanollama.waiting import DEFAULTS, describe_waiting

GIB = 2**30
PROGRAMS = {
    "slurm": ("sbatch", "not found: runs start on this machine"),
    "postgresql": ("postgres", "not found: the database is SQLite"),
    "git": ("git", "not found: runs record no commit"),
}


def examine() -> str:
    """The findings as a text, one line each; it never fails, whatever is missing."""
    sections: list[tuple[str, Callable[[], Iterator[tuple[str, str]]]]] = [
        ("machine", _machine),
        ("torch", _torch),
        ("extras", _extras),
        ("programs", _programs),
        ("working directory", _working_directory),
    ]
    lines = []
    for title, findings in sections:
        lines += [title, *(f"  {name:<12} {text}" for name, text in findings())]
    return "\n".join(lines) + "\n"


def _machine() -> Iterator[tuple[str, str]]:
    yield "nanollama", nanollama.__version__
    yield "python", f"{platform.python_version()} ({sys.executable})"
    known = platform.system() in ("Linux", "Darwin")
    yield "platform", platform.platform() + ("" if known else ": runs need Linux or macOS")
    cores = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    yield "cores", f"{usable} of {cores} usable"
    if "SC_PHYS_PAGES" in os.sysconf_names:
        n_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        yield "memory", f"{n_bytes / GIB:.1f} GiB"


def _torch() -> Iterator[tuple[str, str]]:
    try:
        import torch

        from nanollama.precision import choose_precision
    except ImportError as error:
        yield "version", f"cannot be imported ({error}): run `make venv`"
        return
    yield "version", f"{torch.__version__}, {torch.get_num_threads()} threads"
    yield "waiting", _threads_wait()
    cpu = torch.device("cpu")
    yield "cpu", f"{torch.backends.cpu.get_cpu_capability()}, fastest in {choose_precision('auto', cpu)}"
    for index in range(torch.cuda.device_count()):
        device = torch.device("cuda", index)
        properties = torch.cuda.get_device_properties(device)
        size = f"{properties.total_memory / GIB:.0f} GiB"
        yield str(device), f"{properties.name}, {size}, fastest in {choose_precision('auto', device)}"
    if not torch.cuda.is_available():
        yield "cuda", "no device: models train on the CPU"


def _threads_wait() -> str:
    """How idle threads wait, by whose choice."""
    chosen = describe_waiting()
    words = " ".join(f"{name}={value}" for name, value in chosen.items()) or "as the runtime likes"
    return words + (" (the default here, gentle to busy machines)" if chosen == DEFAULTS else "")


def _extras() -> Iterator[tuple[str, str]]:
    for extra in _extra_names():
        missing = _missing_packages(extra)
        if missing:
            yield extra, f"{', '.join(missing)} missing: run `pip install 'nanollama[{extra}]'`"
        else:
            found = ", ".join(f"{name} {version_of(name)}" for name in _packages(extra))
            yield extra, found or "nothing to install"


def _programs() -> Iterator[tuple[str, str]]:
    for name, (program, absent) in PROGRAMS.items():
        yield name, _find_program(program) or absent


def _find_program(program: str) -> str | None:
    """Path of a program; Debian keeps PostgreSQL's server out of PATH, one folder a version."""
    servers = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return shutil.which(program) or (str(servers[-1]) if servers else None)


def _working_directory() -> Iterator[tuple[str, str]]:
    folder = Path.cwd()
    yield "folder", f"{folder} ({'writable' if os.access(folder, os.W_OK) else 'NOT writable: runs need it'})"
    yield "disk", f"{shutil.disk_usage(folder).free / GIB:.1f} GiB free"


def _extra_names() -> list[str]:
    try:
        return metadata.metadata("nanollama").get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []


def _packages(extra: str) -> list[str]:
    names = []
    for requirement in metadata.requires("nanollama") or []:
        package, _, marker = requirement.partition(";")
        if re.search(rf"extra == ['\"]{re.escape(extra)}['\"]", marker):
            names.append(re.split(r"[^\w.-]", package.strip(), maxsplit=1)[0])
    return names


def _missing_packages(extra: str) -> list[str]:
    """Names of the packages that an extra of ours asks for and that are not installed."""
    return [name for name in _packages(extra) if version_of(name) is None]
