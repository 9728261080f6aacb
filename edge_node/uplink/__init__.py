"""A node's connection to the bridge: over MQTT, or over HTTP."""
