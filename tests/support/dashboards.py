"""The dashboards and alerts of config/."""

import json
from pathlib import Path

CONFIG = Path(__file__).parents[2] / "config"


def expressions(interval: str = "5m") -> list[tuple[str, str]]:
    """Each panel's, with its title, as Prometheus gets them from Grafana."""
    found = [
        (f"{path.stem}: {panel['title']}", target["expr"])
        for path in sorted((CONFIG / "grafana").glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert found
    return [(title, text.replace("$__rate_interval", interval).replace("$instance", ".*")) for title, text in found]
