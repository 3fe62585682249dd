"""Spatial and intensity preparation of images."""
