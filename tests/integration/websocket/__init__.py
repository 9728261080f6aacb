"""The endpoint `/ws/app/{connection_uuid}/` from outside, byte by byte, whatever speaks it: see kinds.py."""
