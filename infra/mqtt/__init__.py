"""One lasting MQTT session on asyncio, by paho-mqtt."""
