"""The wake-word engine."""
