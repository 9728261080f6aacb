"""Learns how the people of a place say the wake word: records them, asks again where it must, keeps what it is told to."""
