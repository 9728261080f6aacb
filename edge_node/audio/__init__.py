"""Sound from a device, a program or a file, as frames."""
