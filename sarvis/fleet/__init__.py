"""A simulated fleet: real nodes without microphones and real apps without users, in one process."""
