"""A fleet that is not there: real nodes without ears and real apps without people, in one process."""
