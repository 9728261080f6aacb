"""`sarvis watch`: messages as they pass the broker."""
