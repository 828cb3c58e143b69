"""What the dashboards and rules under deploy/ ask Prometheus, with the place where it is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import yaml

from fraud_assets.settings import PROJECT_ROOT

DASHBOARDS = PROJECT_ROOT / "deploy" / "grafana" / "dashboards"
RULES = PROJECT_ROOT / "deploy" / "prometheus" / "rules.yml"


def shown_expressions() -> Iterator[tuple[str, str]]:
    """Every expression of a panel, and of a rule."""
    for file in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                yield f"{file.name}, {panel['title']}", target["expr"]
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield f"{RULES.name}, {rule.get('alert') or rule['record']}", rule["expr"]


def names_in(expression: str) -> set[str]:
    """The metrics that an expression names: all of ours, of BentoML's and of Prometheus' own begin so."""
    return set(re.findall(r"\b((?:fraud|bentoml)_[\w:]+|up)\b", re.sub(r'"[^"]*"', "", expression)))
