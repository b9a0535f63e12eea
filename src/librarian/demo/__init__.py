"""The demonstration: two sites on this machine, real data from upload to verified copies at both."""
