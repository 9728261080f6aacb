"""What was taken for the wake word, or nearly: kept on the device for its people to look at, if they ask for it."""
