"""Probes that measure what a broker guarantees."""
