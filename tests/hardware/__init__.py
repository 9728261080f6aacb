"""What only a Jetson can show; deselected unless asked for with `-m hardware`, as docs/install-jetson.md says."""
