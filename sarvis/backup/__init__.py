"""All that a hub must not lose, in one file: made, checked, put back."""
