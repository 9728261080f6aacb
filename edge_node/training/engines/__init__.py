"""Synthesisers behind one seam: a spoken line in, 16 kHz samples out."""
