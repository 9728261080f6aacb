"""What measures, attacks and compares SARVIS; no part of it, and no test by itself."""
