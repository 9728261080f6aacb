"""What the rest of the bridge sees of an app, whichever way its socket is served."""
