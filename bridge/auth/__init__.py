"""Who gets in: tokens, keys, rates, and the judgement of each request."""
