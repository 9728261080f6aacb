"""The embedded MQTT broker: aMQTT, hardened for a house."""
