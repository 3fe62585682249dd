"""Judging synthetic PET against real PET, from files alone."""
