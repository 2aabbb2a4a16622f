"""The shape of the house, read from the source: who may import whom, and how big a file may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lipsync_cli"

LAYERS = (
    {"core"},
    {"media", "faces", "audio"},
    {"training", "data", "metrics", "hub"},
    {"networks", "sync", "dubbing"},
    {"tasks"},
    {"cli"},
)
HEIGHT = {area: height for height, areas in enumerate(LAYERS) for area in areas}
ROOMS_THAT_MAY_USE = {"synclipmae": {"vsr", "understanding", "vace"}}  # and any room may use `blocks`

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "base", "misc"}
REPOSITORY_FOLDERS = {"models", "recipes", "tests", "examples", "benchmarks"}
ONLY_IN_CLI = {"rich", "typer", "tqdm"}
MAX_LINES = 600


def package_files() -> list[Path]:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 30, "the package was not found where the test looks"
    return files


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every absolute module name that a file imports, wherever in the file it does, with the line."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the import from lipsync_cli"
            yield node.module or "", node.lineno
            if node.module in ("lipsync_cli", "lipsync_cli.networks"):  # from lipsync_cli import sync
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node.lineno


def place(module_parts: tuple[str, ...]) -> tuple[str, str]:
    """(area, room) of a module below lipsync_cli; the room is empty outside `networks`."""
    area = module_parts[0]
    return area, module_parts[1] if area == "networks" and len(module_parts) > 1 else ""


def may_import(importer: tuple[str, str], imported: tuple[str, str]) -> bool:
    if importer == imported:
        return True
    (area, room), (other_area, other_room) = importer, imported
    if area == other_area == "networks":
        return other_room in ("", "blocks") or room in ROOMS_THAT_MAY_USE.get(other_room, ())
    return HEIGHT[other_area] < HEIGHT[area]


def test_every_area_has_a_layer():
    areas = {path.name for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    assert areas, "no areas found"
    assert areas <= set(HEIGHT), f"areas without a layer: {areas - set(HEIGHT)}"


def test_the_rule_itself():
    assert may_import(("cli", ""), ("tasks", "")) and not may_import(("tasks", ""), ("cli", ""))
    assert not may_import(("media", ""), ("audio", "")) and not may_import(("sync", ""), ("networks", "vsr"))
    assert may_import(("networks", "vsr"), ("networks", "synclipmae"))
    assert not may_import(("networks", "synclipmae"), ("networks", "vsr"))
    assert not may_import(("networks", "flashlips"), ("networks", "synclipmae"))
    assert may_import(("networks", "flashlips"), ("networks", "blocks"))


def test_imports_go_down_only():
    wrong, seen = [], 0
    for path in package_files():
        inside = path.relative_to(PACKAGE).parts
        if len(inside) == 1:
            continue  # lipsync_cli/__init__.py
        for module, line in imports(path):
            parts = tuple(module.split("."))
            if parts[0] != "lipsync_cli" or len(parts) < 2 or parts[1] not in HEIGHT:
                continue
            seen += 1
            importer = place(inside[:-1] if inside[0] == "networks" else inside)
            if not may_import(importer, place(parts[1:])):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert seen > 50
    assert not wrong, "\n".join(wrong)


def test_a_room_never_reaches_for_files_or_codecs():
    rooms = list((PACKAGE / "networks").rglob("*.py"))
    assert len(rooms) > 5
    wrong = [
        f"{path}:{line}" for path in rooms for module, line in imports(path) if module.split(".")[0] == "av"
    ]
    assert not wrong, wrong


def test_sync_is_numbers_only():
    files = list((PACKAGE / "sync").rglob("*.py"))
    assert len(files) > 3
    wrong = [
        f"{path}:{line}"
        for path in files
        for module, line in imports(path)
        if module.split(".")[0] == "torch"
    ]
    assert not wrong, wrong


def test_only_cli_prints_and_draws():
    wrong = []
    for path in package_files():
        if path.is_relative_to(PACKAGE / "cli"):
            continue
        wrong += [
            f"{path}:{line}: {name}" for name, line in imports(path) if name.split(".")[0] in ONLY_IN_CLI
        ]
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{path}:{node.lineno}: print")
    assert not wrong, "\n".join(wrong)


def test_never_imports_click_or_folders_of_the_repository():
    forbidden = {"click", *REPOSITORY_FOLDERS}
    wrong = [
        f"{path}:{line}: {module}"
        for path in package_files()
        for module, line in imports(path)
        if module.split(".")[0] in forbidden or module.startswith("typer._click")
    ]
    assert not wrong, "\n".join(wrong)


def test_no_error_is_swallowed():
    wrong = []
    for path in package_files():
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            catches_all = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id == "Exception"
            )
            if catches_all and all(isinstance(statement, ast.Pass) for statement in node.body):
                wrong.append(f"{path}:{node.lineno}")
    assert not wrong, wrong


def test_names_say_something():
    wrong = [path for path in PACKAGE.rglob("*") if path.stem in VAGUE_NAMES]
    assert not wrong, wrong


def test_no_file_over_the_wall():
    files = [*package_files(), *(ROOT / "tests").rglob("*.py")]
    long = {
        str(path): count for path in files if (count := len(path.read_text("utf-8").splitlines())) > MAX_LINES
    }
    assert not long, long


def test_every_module_says_what_it_is():
    silent = [str(path) for path in package_files() if not ast.get_docstring(tree_of(path))]
    assert not silent, silent
