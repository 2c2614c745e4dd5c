"""Nothing of ours executes what it reads: no pickle, in any of its disguises."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib", "jsonpickle"}
SAFE_BY = {"torch.load": "weights_only", "np.load": "allow_pickle", "numpy.load": "allow_pickle"}
"""Call -> the argument that makes it safe, which must be there though it may be the default."""


def unsafe(source: str) -> Iterator[str]:
    """Imports and calls that unpickle."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        yield from (f"imports {name}" for name in names if name.split(".")[0] in PICKLES)
        if isinstance(node, ast.Call) and (argument := SAFE_BY.get(ast.unparse(node.func))):
            wanted = argument == "weights_only"
            given = {each.arg: each.value for each in node.keywords}
            value = given.get(argument)
            if not (isinstance(value, ast.Constant) and value.value is wanted):
                yield f"calls {ast.unparse(node.func)} without {argument}={wanted}"


def test_nothing_is_unpickled() -> None:
    wings = sorted(path.parent for path in ROOT.glob("*/__init__.py"))
    wrong = [
        f"{path.relative_to(ROOT)} {found}"
        for wing in wings
        for path in sorted(wing.rglob("*.py"))
        for found in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_search_finds_what_it_looks_for() -> None:
    source = "import pickle\nfrom joblib import load\ntorch.load(f)\nnp.load(f, allow_pickle=True)\n"
    assert len(list(unsafe(source))) == 4
    assert not list(unsafe("torch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)\n"))
