"""`python -m tests.support.altered ...`: `sarvis ...` with other values of its constants.

ALTERED in the environment has them, as MODULE:NAME=SECONDS, one beside the other.
"""

import importlib
import os


def alter() -> None:
    """Set what ALTERED names; raises AttributeError if there is no such constant."""
    for one in os.environ.get("ALTERED", "").split():
        place, _, value = one.partition("=")
        module, _, name = place.partition(":")
        holder = importlib.import_module(module)
        getattr(holder, name)
        setattr(holder, name, float(value))


if __name__ == "__main__":
    alter()
    from sarvis.cli import main

    main()
