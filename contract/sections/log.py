"""What all processes read."""

from typing import Literal

from contract.sections.base import Section


class LogSettings(Section):
    """Where diagnostics go: always to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
