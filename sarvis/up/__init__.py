"""`sarvis up`: the whole system on one machine, to try it with a phone."""
