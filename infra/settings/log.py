"""Settings of the log, for all processes."""

from typing import Literal

from infra.settings.base import Section


class LogSettings(Section):
    """Where diagnostics go: always to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
