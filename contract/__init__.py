"""What all rooms of SARVIS share: topics, messages, errors, clock, settings, the MQTT session, telemetry."""
