"""Wake-word models that a bridge brings: fetched, checked, tested, kept, and given up again."""
