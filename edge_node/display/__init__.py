"""Lights, sounds and printed events of a node."""
