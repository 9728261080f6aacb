"""Creates and changes the folder of a broker: configuration, users, certificates, kits."""
