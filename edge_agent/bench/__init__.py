"""Measuring this device: error rates, compute time, and a plain peer to compare with."""
