"""Mosquitto's own tests of a broker, run against ours."""
