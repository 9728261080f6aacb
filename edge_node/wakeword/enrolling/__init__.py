"""Learns how the people of a place say the wake word: records them, and asks again where it must."""
