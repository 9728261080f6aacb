"""A node that listens for hours, faster than real time, while its broker and its microphone come and go."""
