"""The session on this device, durably; and wakes on their way."""
