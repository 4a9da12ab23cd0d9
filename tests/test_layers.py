"""The floors of the house: each room imports only rooms below it.

Imports are read from the source, those inside functions and under TYPE_CHECKING too, so that a lazy
import cannot go where a plain one must not.
"""

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"timo": ROOT / "timo", "timo_widgets": ROOT / "widgets"}

# From the ground up, a floor a line: a room imports only rooms that stand before it.
ROOMS = (
    "timo.errors",
    "timo.checks",
    "timo.cancel",
    "timo.compute",
    "timo.crs",
    "timo.atomic",
    "timo.sizes",
    "timo.commands",
    "timo.sensors",
    "timo.geostat",
    "timo.cube",
    "timo.models",
    "timo.sources",
    "timo.places",
    "timo.loading",
    "timo.filling",
    "timo.inspection",
    "timo.mapping",
    "timo.training",
    "timo.evaluate",
    "timo.datasets",
    "timo.cli",
    "timo.__main__",
    # Former names, with a warning.
    "timo.interruption",
    "timo.sources.millionst",
    "timo_widgets.base",
    "timo_widgets.maps",
    "timo_widgets.area",
    "timo_widgets.explore",
    "timo_widgets.label",
    "timo_widgets.run",
    "timo_widgets.result",
    "timo_widgets.attention",
    "timo_widgets.app",
    "timo_widgets",
)
# Whoever imports all of them at once stands above them.
TOP = "timo_widgets"
INTERFACE = {"timo_widgets", "ipywidgets", "leafmap", "ipyleaflet", "anywidget", "IPython"}
MODEL_LIBRARIES = {"lazy_loader", "torch", "einops", "jaxtyping", "safetensors", "numpy"}
MODEL_NEIGHBOURS = tuple(
    f"timo.{name}" for name in ("models", "errors", "checks", "cancel", "sensors", "atomic")
)


def find_modules(packages: dict[str, Path]) -> dict[str, Path]:
    """Dotted name -> source file, for every module under the folders."""
    modules = {}
    for package, folder in packages.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *parts)).removesuffix(".__init__")
            modules[name] = path
    return modules


def imported_names(module: str, path: Path) -> Iterator[str]:
    """Dotted names that the module imports: `from a import b` yields `a.b`."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*above, *filter(None, [node.module])]) if node.level else node.module
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant))


def is_within(name: str, package: str) -> bool:
    """Whether the dotted name is the package or in it."""
    return name == package or name.startswith(package + ".")


def resolve(name: str, modules: dict[str, Path]) -> str:
    """The module of ours that a dotted name lies in; a foreign name as it is."""
    own = name
    while own and own not in modules:
        own = own.rpartition(".")[0]
    return own or name


def room_of(module: str) -> str:
    """The room that one of our modules is in."""
    within = [room for room in ROOMS if is_within(module, room)]
    assert within, f"{module} is in no room: add it to ROOMS"
    return max(within, key=len)


def read_imports(packages: dict[str, Path]) -> dict[str, set[str]]:
    """Module -> what it imports, without `timo/__init__.py`, which loads its parts on first use."""
    modules = find_modules(packages)
    return {
        module: {resolve(name, modules) for name in imported_names(module, path)} - {module}
        for module, path in modules.items()
        if module != "timo"
    }


def floor_violations(imports: dict[str, set[str]]) -> list[str]:
    """Imports of a room above, or of the package root, which would be a way round the floors."""
    found = []
    for module, names in imports.items():
        room = room_of(module)
        for name in sorted(name for name in names if is_within(name, "timo") or name in imports):
            if name == "timo":
                if not is_within(module, TOP):
                    found.append(f"{module} imports from timo itself")
            elif ROOMS.index(room_of(name)) > ROOMS.index(room):
                found.append(f"{module} imports {name}, which stands above {room}")
    return found


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    return read_imports(PACKAGES)


def test_the_table_covers_what_is_there(imports):
    assert {"timo.errors", "timo_widgets"} <= set(imports)
    assert {room_of(module) for module in imports} == set(ROOMS)
    assert len(set(ROOMS)) == len(ROOMS)


def test_no_module_imports_from_a_floor_above(imports):
    assert floor_violations(imports) == []


def test_no_cycles(imports):
    graph = {module: names & set(imports) for module, names in imports.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(imports)


def test_the_emulator_stands_on_its_own_feet(imports):
    """It imports nothing of timo; and timo asks for it in one place, by name, where its lack has a remedy."""
    emulator = read_imports({"ee_emulator": ROOT / "emulator"})
    ours = {name for names in emulator.values() for name in names if name.startswith("timo")}
    assert ours == set()
    graph = {module: names & set(emulator) for module, names in emulator.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(emulator) > 30
    asking = {m for m, names in imports.items() if any(is_within(n, "ee_emulator") for n in names)}
    assert asking == {"timo.sources.emulated"}
    source = (ROOT / "timo/sources/emulated.py").read_text(encoding="utf-8")
    assert source.count("ee_emulator") > 0
    assert "import ee_emulator" not in source
    assert "from ee_emulator" not in source


def test_the_package_knows_nothing_of_the_interface(imports):
    found = {
        (module, name)
        for module, names in imports.items()
        for name in names
        if is_within(module, "timo") and name.split(".")[0] in INTERFACE
    }
    assert found == set()


def test_models_need_torch_and_little_else(imports):
    allowed = MODEL_LIBRARIES | sys.stdlib_module_names
    found = {
        (module, name)
        for module, names in imports.items()
        for name in names
        if is_within(module, "timo.models")
        and name.split(".")[0] not in allowed
        and not any(is_within(name, neighbour) for neighbour in MODEL_NEIGHBOURS)
    }
    assert found == set()


def test_widgets_import_one_another_relatively():
    # Their absolute name exists only once they are installed, and mypy would not follow it.
    found = [
        module
        for module, path in find_modules({"timo_widgets": PACKAGES["timo_widgets"]}).items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.level == 0
        and is_within(node.module or "", "timo_widgets")
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "from ..sources import fetch",
            "timo.models.a imports timo.sources, which stands above timo.models",
        ),
        (
            "from .. import sources",
            "timo.models.a imports timo.sources, which stands above timo.models",
        ),
        (
            "def f():\n    import timo.sources",
            "timo.models.a imports timo.sources, which stands above timo.models",
        ),
        (
            "import importlib\nimportlib.import_module('timo.sources')",
            "imports timo.sources, which",
        ),
        ("from timo import predict", "timo.models.a imports from timo itself"),
        ("import timo_widgets", "imports timo_widgets, which stands above timo.models"),
    ],
)
def test_a_forbidden_import_is_seen(tmp_path, source, expected):
    for name in ("timo/__init__.py", "timo/sources.py", "timo/models/__init__.py", "w/__init__.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "timo/models/a.py").write_text(source)
    violations = floor_violations(
        read_imports({"timo": tmp_path / "timo", "timo_widgets": tmp_path / "w"})
    )
    assert len(violations) == 1
    assert expected in violations[0]
