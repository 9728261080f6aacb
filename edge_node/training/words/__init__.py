"""What the pipeline knows of words: one TOML file per word, and sentences of everyday speech."""
