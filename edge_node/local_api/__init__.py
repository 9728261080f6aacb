"""The device's own HTTP endpoint: the documented log-out, mute, metrics."""
