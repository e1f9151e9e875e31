"""Imports run one way, cost nothing before they are needed, and have no effect."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up; what is not named here is one of the parts, such as data, model or monitor.
LAYERS = [
    {
        "errors",
        "failures",
        "interrupts",
        "measures",
        "waiting",
        "wording",
        "tokenizer",
        "seeds",
        "streams",
        "config",
        "entrypoint",
        "studies",
    },
    {"part"},
    {"training"},
    {"launcher", "report", "exchange"},
    {"watch", "chat"},
    {"cli", "api", "__main__"},
]
HEAVY = {"torch", "numpy", "transformers", "matplotlib", "sqlalchemy", "scipy", "h5py"}
NOT_FOR_HELP = HEAVY | {"rich", "pydantic", "ruamel", "jinja2", "safetensors"}


def modules_under(folder: Path, parent: str) -> Iterator[tuple[str, Path]]:
    """Dotted names and files of the modules of a package."""
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join([parent, *(part for part in parts if part != "__init__")]), path


LIBRARY = dict(modules_under(ROOT / "src" / "nanollama", "nanollama"))
APPS = dict(modules_under(ROOT / "apps", "apps"))


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, also inside its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str:
    """The file or folder of the library that a module belongs to."""
    return module.split(".")[1] if "." in module else "nanollama"


def layer_of(part: str) -> int:
    return next((index for index, names in enumerate(LAYERS) if part in names), 1)


def library_imports(module: str) -> set[str]:
    """The other parts of the library that a module imports."""
    parts = {part_of(name) for name in imports_of(LIBRARY[module]) if name.startswith("nanollama.")}
    return {part for part in parts if f"nanollama.{part}" in LIBRARY} - {part_of(module)}


@pytest.mark.parametrize("module", LIBRARY)
def test_the_library_imports_downwards_and_no_study(module: str) -> None:
    assert not [name for name in imports_of(LIBRARY[module]) if name.split(".")[0] == "apps"]
    upwards = {part for part in library_imports(module) if layer_of(part) > layer_of(part_of(module))}
    assert not upwards


def test_no_part_of_the_library_needs_itself() -> None:
    graph: dict[str, set[str]] = {}
    for module in LIBRARY:
        graph.setdefault(part_of(module), set()).update(library_imports(module))
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", APPS)
def test_studies_do_not_import_each_other(module: str) -> None:
    study = module.split(".")[1] if "." in module else ""
    others = {
        name for name in imports_of(APPS[module]) if name.startswith("apps.") and name.split(".")[1] != study
    }
    assert not others


@pytest.mark.parametrize("module", [*LIBRARY, *APPS])
def test_every_module_can_be_imported(module: str) -> None:
    importlib.import_module(module)


def loaded_after(command: str, tmp_path: Path) -> set[str]:
    """Names of the packages that a fresh Python has loaded after a command; it must print nothing itself."""
    code = f"import sys, json\n{command}\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert finished.stdout == ""
    return {name.split(".")[0] for name in json.loads(finished.stderr)}


def test_the_package_itself_loads_nothing_heavy(tmp_path: Path) -> None:
    assert not loaded_after("import nanollama", tmp_path) & (NOT_FOR_HELP | {"typer"})


@pytest.mark.parametrize(
    ("argv", "unwanted"),
    [(["--help"], NOT_FOR_HELP), (["--version"], NOT_FOR_HELP), (["train", "--help"], HEAVY)],
)
def test_help_loads_nothing_heavy(argv: list[str], unwanted: set[str], tmp_path: Path) -> None:
    command = (
        "import io, nanollama.cli.command\nsys.stdout = io.StringIO()\n"
        f"assert nanollama.cli.command.main({argv!r}) == 0"
    )
    assert not loaded_after(command, tmp_path) & unwanted


def test_a_wrong_path_is_told_before_anything_heavy_loads(tmp_path: Path) -> None:
    command = (
        "import io, nanollama.cli.command\nsaid = sys.stderr\nsys.stderr = io.StringIO()\n"
        "assert nanollama.cli.command.main(['train', 'none.yaml']) == 2\nsys.stderr = said"
    )
    assert not loaded_after(command, tmp_path) & HEAVY


@pytest.mark.parametrize("config", ["memory/config/local_grid.yaml", "composition/config/width.yaml"])
def test_the_state_of_a_grid_is_told_without_loading_torch(config: str, tmp_path: Path) -> None:
    command = (
        f"import io, os, nanollama.cli.command\nos.chdir({str(ROOT)!r})\nsys.stdout = io.StringIO()\n"
        f"argv = ['grid', 'status', 'apps/{config}', {f'run_dir={tmp_path}/runs'!r}]\n"
        "assert nanollama.cli.command.main(argv) == 0\n"
        "assert 'waiting' in sys.stdout.getvalue()\nsys.stdout = io.StringIO()"
    )
    assert "torch" not in loaded_after(command, tmp_path)


def test_imports_have_no_effect(tmp_path: Path) -> None:
    """No output, no file, no global seed, no process-wide setting of torch."""
    modules = [name for name in [*LIBRARY, *APPS] if not name.endswith("__main__")]
    command = (
        "import os, random, torch, numpy, rich.style\n"  # rich draws a number when it is imported
        "def state():\n"
        "    seeds = (random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist())\n"
        "    modes = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads())\n"
        "    return seeds, modes, torch.get_float32_matmul_precision(), dict(os.environ), os.getcwd()\n"
        "before = state()\n"
        f"for name in {modules!r}: __import__(name)\n"
        "assert state() == before"
    )
    loaded_after(command, tmp_path)
    assert not list(tmp_path.iterdir())
