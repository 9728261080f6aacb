"""The node on the Jetson: recognises the wake word, publishes wakes, and obeys the bridge's log-ins and log-outs."""
