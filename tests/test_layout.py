"""Who may import whom: the arrows of the architecture, held as a matrix."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxscript", "tensorrt", "sklearn", "matplotlib"}

# folder -> (folders of ours it may import, heavy libraries it may import), at any depth of the code
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "core": (set(), set()),
    "client": ({"core"}, set()),
    "serving": ({"core"}, {"onnxruntime"}),  # the runner, which executes inside the server's own environment
    "training": ({"core"}, {"torch", "torchvision", "sklearn", "matplotlib"}),
    "export": ({"core", "training"}, HEAVY),
    "deployment": ({"core", "export", "serving", "bundles"}, set()),
    "web": ({"core", "client", "deployment", "serving", "samples"}, set()),
    "benchmarks": ({"core", "client", "serving", "export", "training", "deployment", "cli", "web", "samples"}, HEAVY),
    "cli": ({"core", "client", "serving", "export", "training", "deployment", "web", "benchmarks", "bundles"}, set()),
}


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


def test_every_folder_with_code_is_in_the_matrix() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders - {"bundles", "samples"} == set(ALLOWED)


@pytest.mark.parametrize("module", ["reelkind.cli.main", "reelkind.client", "reelkind.serving", "reelkind.core.bundle"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_help_loads_neither_numpy_nor_decoders() -> None:
    code = "import sys; from reelkind.cli.main import build_parser; build_parser().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "av", "tritonclient", "grpc"} & set(done.stdout.split())
