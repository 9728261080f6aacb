"""What goes over a wire: topics, messages, the app's subprotocol and close codes."""
