"""docs/observability.md is about what there is: every panel and every alert has its words."""

from __future__ import annotations

import json
import re
from pathlib import Path

from .conftest import DEPLOY

PAGE = (Path(__file__).parents[2] / "docs" / "observability.md").read_text(encoding="utf-8")


def test_every_panel_is_explained_and_no_other() -> None:
    board = json.loads((DEPLOY / "observability/grafana/reelkind.json").read_text(encoding="utf-8"))
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert rows[2:] == [panel["title"] for panel in board["panels"]]


def test_every_alert_is_explained_and_no_other() -> None:
    text = (DEPLOY / "observability/alerts.yaml").read_text(encoding="utf-8")
    alerts = re.findall(r"^ +- alert: (\w+)$", text, re.MULTILINE)
    headings = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
    assert [name for heading in headings for name in heading.split(", ")] == alerts
