"""The embedded MQTT broker, and the users, rights and folders of every broker."""
