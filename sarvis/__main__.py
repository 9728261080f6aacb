"""`python -m sarvis`."""

from sarvis.cli import main

main()
