"""The node on the Jetson: hears the wake word, tells the bridge, and is logged in or out by it."""
