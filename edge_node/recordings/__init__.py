"""Recordings taken for the wake word, or nearly: stored on the device for its people to examine."""
