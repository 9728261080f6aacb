"""The back-up of everything that a hub must not lose, in one file: written, checked, restored."""
