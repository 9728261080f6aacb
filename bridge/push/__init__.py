"""Pushes to sleeping phones."""
