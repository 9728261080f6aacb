"""From a word to a model: sources, generated speech, features, training, evaluation. Needs the extra `train`."""
