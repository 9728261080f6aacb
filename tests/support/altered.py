"""`python -m tests.support.altered ...`: `sarvis ...` with other values of its constants.

ALTERED in the environment has them, as MODULE:NAME=SECONDS, one beside the other.
"""

import importlib
import os

if __name__ == "__main__":
    for one in os.environ["ALTERED"].split():
        place, _, value = one.partition("=")
        module, _, name = place.partition(":")
        holder = importlib.import_module(module)
        getattr(holder, name)  # there is such a constant
        setattr(holder, name, float(value))
    from sarvis.cli import main

    main()
