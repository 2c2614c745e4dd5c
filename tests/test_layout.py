"""Who may import whom: the arrows of the architecture, held as a matrix, and rooms of a size that can be read."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = {
    *("torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "tensorrt", "sklearn", "matplotlib"),
    "ray",
}

# wing -> (wings of ours it may import, heavy libraries it may import), at any depth of the code; from the ground up
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "core": (set(), set()),
    "video": ({"core"}, set()),
    "models": ({"core", "video"}, {"torch", "torchvision", "timm"}),
    "datasets": ({"core", "video"}, {"sklearn"}),
    "client": ({"core", "video"}, set()),
    "serving": ({"core"}, {"onnxruntime"}),  # the runner, which executes inside the server's own environment
    "export": ({"core", "video", "models"}, HEAVY - {"ray"}),
    "evaluation": ({"core", "video", "datasets", "client", "export"}, {"sklearn", "matplotlib"}),
    "training": (
        {"core", "video", "models", "datasets", "evaluation"},
        {"torch", "torchvision", "sklearn", "matplotlib"},
    ),
    "deployment": ({"core", "client", "export", "serving", "bundles"}, set()),
    "bulk": ({"core", "video", "client", "deployment"}, {"ray"}),
    "web": ({"core", "video", "client", "deployment", "serving", "samples"}, set()),
    "benchmarks": (
        {
            *("core", "video", "models", "datasets", "client", "serving", "export", "evaluation", "training"),
            *("deployment", "bulk", "web", "samples"),
        },
        HEAVY,
    ),
    "cli": (
        {
            *("core", "video", "models", "datasets", "client", "serving", "export", "evaluation", "training"),
            *("deployment", "bulk", "web", "benchmarks", "bundles"),
        },
        set(),
    ),
}
MAX_FILES = 15  # of a folder's own


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a file imports, relative imports resolved."""
    package = ("reelkind", *path.relative_to(ROOT).parent.parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, (prefix, node.module)))
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def module_name(path: Path) -> str:
    parts = ("reelkind", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle_of(arrows: dict[str, set[str]]) -> list[str]:
    """Names that import each other in a circle, or nothing."""
    state: dict[str, int] = {}

    def visit(name: str, way: list[str]) -> list[str]:
        if state.get(name) == 1:
            return way[way.index(name) :]
        if state.get(name) == 2:
            return []
        state[name] = 1
        for other in sorted(arrows.get(name, ())):
            if found := visit(other, [*way, name]):
                return found
        state[name] = 2
        return []

    return next((found for name in sorted(arrows) if (found := visit(name, []))), [])


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_imports_follow_the_architecture(folder: str) -> None:
    ours, heavy = ALLOWED[folder]
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in sorted(imports_of(path)):
            parts = name.split(".")
            bad_own = parts[0] == "reelkind" and len(parts) > 1 and parts[1] not in ours | {folder}
            bad_heavy = parts[0] in HEAVY - heavy
            if bad_own or bad_heavy:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_wing_stands_on_one_that_stands_on_it() -> None:
    assert not circle_of({wing: ours - {"bundles", "samples"} for wing, (ours, _) in ALLOWED.items()})


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_no_file_imports_in_a_circle(folder: str) -> None:
    modules = {module_name(path): path for path in (ROOT / folder).rglob("*.py")}
    arrows = {}
    for name, path in modules.items():
        found = imports_of(path)
        known = {each if each in modules else each.rpartition(".")[0] for each in found}
        arrows[name] = known & set(modules) - {name}
    assert not circle_of(arrows)


def test_every_folder_with_code_is_in_the_matrix() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders - {"bundles", "samples"} == set(ALLOWED)


def test_rooms_can_be_read() -> None:
    places = [path.parent for wing in (*ALLOWED, "tests") for path in (ROOT / wing).rglob("*.py")]
    full = {place for place in places if sum(path.is_file() for path in place.iterdir()) > MAX_FILES}
    assert {str(place.relative_to(ROOT)) for place in full} == set()


@pytest.mark.parametrize(
    "module", ["reelkind", "reelkind.cli.main", "reelkind.client", "reelkind.serving", "reelkind.core.bundle"]
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_help_loads_neither_numpy_nor_decoders() -> None:
    code = "import sys; from reelkind.cli.main import build_parser; build_parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "av", "tritonclient", "grpc"} & set(done.stdout.split())
