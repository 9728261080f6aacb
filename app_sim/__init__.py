"""The app: a client library and a terminal around it."""
