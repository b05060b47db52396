"""The arrows between the parts of the gateway, and what the packages export."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.tidy.tree import files_of, text_of

GATEWAY = Path("gateway/millstream_gateway")
# A part may import itself and the parts after it; `errors` may be imported by all.
ORDER = ("app", "routers", "dependencies", "services", "backends", "settings", "schemas")
ENGINE = ("millstream._core", "millstream.v1", "grpc")


def imported(tree: ast.Module) -> list[tuple[int, str]]:
    """The modules that a file imports, by line; `from a import b` counts as a and a.b."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append((node.lineno, node.module))
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def part_of(module: str) -> str:
    """The gateway's part that a module name belongs to; empty for anything else."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 and pieces[0] == "millstream_gateway" else ""


def arrow_faults(path: Path, text: str) -> list[str]:
    """Imports that go against the order, and imports of the engine outside backends/."""
    part = path.relative_to(GATEWAY).parts[0].removesuffix(".py")
    faults = []
    for line, module in imported(ast.parse(text)):
        other = part_of(module)
        if part in ORDER and other in ORDER and ORDER.index(other) < ORDER.index(part):
            faults.append(f"{path}:{line}: {part} imports {other}")
        engine = any(module == name or module.startswith(name + ".") for name in ENGINE)
        if engine and part != "backends":
            faults.append(f"{path}:{line}: only backends/ may import {module}")
    return faults


def test_gateway_imports_follow_the_arrows() -> None:
    faults = [
        fault
        for path in files_of(".py", below=str(GATEWAY))
        for fault in arrow_faults(path, text_of(path))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("file", "text", "allowed"),
    [
        ("routers/query.py", "from millstream_gateway.services import query", True),
        ("services/query.py", "from millstream_gateway.routers import query", False),
        ("routers/query.py", "import millstream._core", False),
        ("routers/query.py", "from millstream import _core", False),
        ("backends/embedded.py", "from millstream import _core", True),
    ],
)
def test_arrow_rule_tells_right_from_wrong(file: str, text: str, allowed: bool) -> None:
    assert (not arrow_faults(GATEWAY / file, text)) is allowed


@pytest.mark.parametrize("package", ["python/millstream", "gateway/millstream_gateway"])
def test_packages_say_what_they_export(package: str) -> None:
    tree = ast.parse(text_of(Path(package, "__init__.py")))
    exported: list[str] = []
    bound = set()
    # What is imported when it is first used is bound only for type checkers.
    lazy = [inner for node in tree.body if isinstance(node, ast.If) for inner in node.body]
    for node in [*tree.body, *lazy]:
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]:
            exported = ast.literal_eval(node.value)
        if isinstance(node, ast.ImportFrom | ast.Import):
            bound |= {alias.asname or alias.name for alias in node.names}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        if isinstance(node, ast.Assign):
            bound |= {ast.unparse(target) for target in node.targets}
        if isinstance(node, ast.AnnAssign):
            bound.add(ast.unparse(node.target))
    assert exported, f"{package}/__init__.py has no __all__"
    assert len(exported) == len(set(exported))
    assert set(exported) <= bound


@pytest.mark.parametrize("package", ["python/millstream", "gateway/millstream_gateway"])
def test_packages_are_marked_as_typed(package: str) -> None:
    assert (
        Path(package, "py.typed") in files_of(".typed") or text_of(Path(package, "py.typed")) == ""
    )
