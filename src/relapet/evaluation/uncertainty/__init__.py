"""What is stated of a regional SUVr beyond its mean: samples, and intervals calibrated on validation subjects."""
