"""Benchmarks: several methods and seeds on one cohort."""
