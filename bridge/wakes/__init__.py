"""From a wake on MQTT to its user's apps, and its outcome back to the device."""
