"""Users and rights, the same for every broker."""
