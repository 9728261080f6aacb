"""The command `sarvis`."""
