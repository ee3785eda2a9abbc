"""Imports point down, and what should start without JAX does."""

import ast
import subprocess
import sys
from pathlib import Path

import muscope

PACKAGE = Path(muscope.__file__).parent
FLOORS = (
    ("errors", "version"),
    ("config", "display", "interrupt", "plugins", "progress"),
    ("exits", "fingerprint", "host_call", "memory", "runtime", "variants"),
    ("envs", "room", "work"),
    ("agent",),
    ("search",),
    ("evaluation", "learning"),
    ("statistics", "storage"),
    ("foreign", "training"),
    ("subjects",),
    ("run_subject",),
    ("claims",),
    ("experiments",),
    ("checks", "comparison", "presets"),
    ("forecast", "trained"),
    ("reporting",),
    ("examination", "jobs"),
    ("cluster",),
    ("doors", "flags", "stages"),
    ("comparing", "looking", "pooling"),
    ("studies",),
    ("sweeps",),
    ("__init__", "cli"),
    ("__main__",),
)
"""From the ground up; rooms of one floor do not know each other."""


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), path


def imports(path):
    """Names of our own modules that a file imports anywhere, lazily or not; not for types only."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("muscope"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("muscope"):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if is_module(name) else node.module for name in inner)


def is_module(name):
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def floor_of(room):
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_its_floor():
    rooms = {name.split(".")[0] for name, _ in modules()}
    assert rooms == {room for floor in FLOORS for room in floor}


def test_imports_point_down():
    for name, path in modules():
        room = name.split(".")[0]
        for imported in imports(path):
            _, _, inner = imported.partition(".")
            assert inner or room in ("__main__",), f"{name} imports the whole package"
            other = inner.split(".")[0]
            if other != room:
                assert floor_of(other) < floor_of(room), f"{name} imports {imported}, above it"


def test_no_cycle_inside_a_room():
    graph = {}
    for name, path in modules():
        targets = {imported.partition(".")[2] for imported in imports(path)}
        graph[name] = {t for t in targets if t.split(".")[0] == name.split(".")[0]} - {name}
    seen, path = set(), []

    def visit(name):
        assert name not in path, f"a cycle: {' -> '.join([*path, name])}"
        if name not in seen:
            path.append(name)
            for target in graph.get(name, ()):
                visit(target)
            path.pop()
            seen.add(name)

    for name in graph:
        visit(name)


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_a_runs_config_is_read_without_jax(tmp_path):
    file = tmp_path / "config.json"
    code = (
        "import json, sys; from muscope.config import Config, from_dict, to_dict;"
        f"open({str(file)!r}, 'w').write(json.dumps(to_dict(Config())));"
        f"assert from_dict(json.load(open({str(file)!r}))) == Config();"
        "print([m for m in ('jax', 'jaxtyping', 'numpy', 'pyarrow') if m in sys.modules])"
    )
    assert run(code).stdout.strip() == "[]"
