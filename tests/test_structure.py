"""How the project is laid out: imports run one way and never in a circle, and rooms stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each room imports from rooms before it alone; "" are the commands and the face of the package.
ROOMS = {
    "preprocess": ("io", "work", "faces", "cache", ""),
    "ffdetect": (
        "weights",
        "evaluation",
        "audit",
        "models",
        "provenance",
        "voice",
        "fakes",
        "scoring",
        "training",
        "solving",
        "serve",
        "",
    ),
}
PACKAGES = (*ROOMS, "benchmarks")
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for package in PACKAGES
    for file in sorted((ROOT / package).rglob("*.py"))
}


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Imports anywhere in a module but in `if TYPE_CHECKING`, which no run gets to see."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from statements(child)


def imported(name: str) -> set[str]:
    """The project's modules that a module imports, at its top or in a function."""
    file = MODULES[name]
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in statements(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        names = {f"{base}.{alias.name}" for alias in node.names}
        found |= names & MODULES.keys() or {base}
    return (found & MODULES.keys()) - {name}


IMPORTED = {name: imported(name) for name in MODULES}


def room_of(name: str) -> tuple[str, str]:
    folder = MODULES[name].relative_to(ROOT).parts[:-1]
    return folder[0], folder[1] if len(folder) > 1 else ""


def test_every_import_was_read() -> None:
    assert "preprocess.io.storage" in IMPORTED["preprocess.cache.parts"]  # absolute
    assert "preprocess.cache.errors" in IMPORTED["preprocess.cache.parts"]  # relative
    assert "ffdetect.scoring.detector" in IMPORTED["ffdetect"]  # of a module, in a function


def test_no_imports_run_in_a_circle() -> None:
    rest = dict(IMPORTED)
    while ends := [name for name, needs in rest.items() if not needs & rest.keys()]:
        for name in ends:
            del rest[name]
    # What is left is in a circle, or imports one that is.
    assert not rest, {name: sorted(needs & rest.keys()) for name, needs in rest.items()}


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_from_rooms_before_them(package: str) -> None:
    order = ROOMS[package]
    rooms = {room_of(name)[1] for name in MODULES if room_of(name)[0] == package}
    assert rooms <= {*order}, f"give {sorted(rooms - {*order})} a place in ROOMS"
    back = [
        f"{name} -> {needed}"
        for name, needs in IMPORTED.items()
        for needed in needs
        if room_of(name)[0] == room_of(needed)[0] == package
        and order.index(room_of(needed)[1]) > order.index(room_of(name)[1])
    ]
    assert not back


def test_packages_import_from_packages_before_them() -> None:
    back = [
        f"{name} -> {needed}"
        for name, needs in IMPORTED.items()
        for needed in needs
        if PACKAGES.index(room_of(needed)[0]) > PACKAGES.index(room_of(name)[0])
    ]
    assert not back


def test_relative_imports_are_of_the_folder_and_nothing_imports_tests() -> None:
    for name, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{name} imports from above its folder"
                assert node.level or node.module.split(".")[0] != "tests", name
            elif isinstance(node, ast.Import):
                assert not any(alias.name.startswith("tests") for alias in node.names), name


def test_no_folder_has_more_than_twelve_modules() -> None:
    folders = {file.parent for file in [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]}
    counts = {
        str(folder.relative_to(ROOT)): len({*folder.glob("*.py")} - {folder / "__init__.py"})
        for folder in folders
    }
    assert {f: n for f, n in counts.items() if n > 12} == {}


def test_no_module_has_more_than_400_lines() -> None:
    files = [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]
    lines = {file: len(file.read_text("utf-8").splitlines()) for file in files}
    assert {str(file): count for file, count in lines.items() if count > 400} == {}


# Speed, time and shares as they are measured; settings and definitions that look like them.
FIGURE = re.compile(
    r"\d ?(ms|%|(pictures|files|faces|crops)/s)(?!\w)"
    r"|\w+ times (as (fast|quick|slow|long)|faster|slower|longer)"
    r"|(half|third|quarter|tenth|hundredth) of (the|\w+'s) (time|work|space|memory)"
)
NO_MEASUREMENT = (
    "95 % interval",
    "94 % of cases",  # of the median of five, by counting
    "2 % of each other's side",
    "every 20 ms",
    "Windows are 25 ms (400 samples, Hann) every 10 ms",
    "many times",
)


def test_docstrings_have_no_measured_figures() -> None:
    """They rot; `benchmarks/results` has them."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = []
    for name, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, documented):
                text = " ".join((ast.get_docstring(node) or "").split())
                for phrase in NO_MEASUREMENT:
                    text = text.replace(phrase, "")
                found += [f"{name}: {match[0]}" for match in FIGURE.finditer(text)]
    assert not found


def test_tests_import_what_is_there() -> None:
    """Also those that need a library which is seldom there."""
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and not node.level:
                path = ROOT / node.module.replace(".", "/")
                ours = node.module.split(".")[0] in (*PACKAGES, "tests")
                found = path.is_dir() or path.with_suffix(".py").is_file()
                assert found or not ours, f"{file}: {node.module}"


# Folders whose tests patch public names alone; the others are to follow.
PATCH_PUBLIC_NAMES = ("preprocess",)


def patched(node: ast.AST) -> Iterator[str]:
    """What a statement or a call of a test puts something else in the place of."""
    if isinstance(node, ast.Assign):
        targets = [target for target in node.targets if isinstance(target, ast.Attribute)]
        yield from (ast.unparse(t) for t in targets if ast.unparse(t.value) != "self")
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        if called.endswith((".setattr", ".delattr", "patch", "patch.object")):
            texts = (a.value if isinstance(a, ast.Constant) else ast.unparse(a) for a in node.args)
            yield ".".join(map(str, [*texts][:2]))


@pytest.mark.parametrize("folder", PATCH_PUBLIC_NAMES)
def test_no_test_patches_a_private_name(folder: str) -> None:
    """What a test needs to change is an argument, or has a name that others may use too."""
    found = [
        f"{file.name}: {name}"
        for file in (ROOT / "tests" / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        for name in patched(node)
        if re.search(r"(^|\.)_(?!_)\w", name)
    ]
    assert not found


def test_the_formatter_formats() -> None:
    files = [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]
    skipped = [
        f.name
        for f in files
        for line in f.read_text("utf-8").splitlines()
        if line.rstrip().endswith("# fmt: skip")
    ]
    assert len(skipped) < 10
