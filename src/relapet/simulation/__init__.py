"""The simulated cohort with known truth, as scanned or model-ready."""
