"""For the site's Python reference: examples in docstrings are code, wherever they stand."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\n).+)*", re.M)


class FencedExamples(griffe.Extension):
    """Puts fences around ``>>>``, which would be taken for quotations."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of what was read."""
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
