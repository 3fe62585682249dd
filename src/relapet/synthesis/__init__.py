"""From noise to SUVr maps."""
