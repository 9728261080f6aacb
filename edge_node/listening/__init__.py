"""The listening half of a node: the audio thread, mute, and the watchdog."""
