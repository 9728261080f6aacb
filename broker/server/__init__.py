"""The embedded MQTT broker: aMQTT's codecs and sessions, everything else our own."""
