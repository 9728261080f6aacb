"""Learns how the people of a household say the wake word."""
