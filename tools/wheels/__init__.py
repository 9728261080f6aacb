"""Which wheels another machine would get: `scripts/wheels`."""
