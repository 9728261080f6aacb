"""`sarvis top`: the fleet on one live screen."""
