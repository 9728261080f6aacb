"""One harness for each thing that tests wire in memory: a bridge, its sessions, its relay, a node."""
