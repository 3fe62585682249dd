"""Figures and reports from the tables that evaluation writes."""
