"""MkDocs hooks: texts that lie outside ``docs/`` as pages of the site, and links between them as in the repository.

A page of the repository keeps its path in the site, but for ``docs/``, which is the site's root, and README.md, its
start. What pages link to besides pages (a table, a licence) is copied.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "samples/README.md")
CARDS = "bundles/*/README.md"

_TARGET = re.compile(r'(?<=\]\()[^)#\s:]+(?=[)#])|(?<=href=")[^"#:]+(?=["#])|(?<=src=")[^"#:]+(?=["#])')


def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside ``docs/`` and what pages link to."""
    pages = [*PAGES, *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(CARDS)))]
    for page in pages:
        files.append(File.generated(config, _site_uri(page), content=(ROOT / page).read_text(encoding="utf-8")))
    for file in list(files.documentation_pages()):
        for target in _targets(file.content_string, _origin(file.src_uri)):
            if files.get_file_from_path(_site_uri(target)) is None and (ROOT / target).is_file():
                files.append(File.generated(config, _site_uri(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as they are from the page's place in the site."""
    origin = _origin(page.file.src_uri)

    def moved(match: re.Match[str]) -> str:
        place = posixpath.dirname(page.file.src_uri) or "."
        return posixpath.relpath(_site_uri(_target(origin, match)), place)

    return _TARGET.sub(moved, markdown)


def _targets(markdown: str, origin: str) -> set[str]:
    """Paths in the repository that a page there links to."""
    return {_target(origin, match) for match in _TARGET.finditer(markdown)}


def _target(origin: str, match: re.Match[str]) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), match[0]))


def _site_uri(path: str) -> str:
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def _origin(uri: str) -> str:
    """Path in the repository of a file of the site."""
    if uri == "index.md":
        return "README.md"
    return f"docs/{uri}" if (ROOT / "docs" / uri).is_file() else uri
