"""The tests on each Python that pyproject.toml declares: `scripts/pythons`."""
