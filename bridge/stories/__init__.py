"""What happened to each wake and each device, kept for some days in a file of its own, outside the ledger."""
