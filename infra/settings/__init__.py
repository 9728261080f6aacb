"""The settings of all processes, by section."""
