"""Devices and their wakes for Home Assistant, over the broker that both use."""
