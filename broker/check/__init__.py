"""What a broker really guarantees: probes of the operator's own, whatever it is."""
