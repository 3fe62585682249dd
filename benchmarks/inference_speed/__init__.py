"""The parts of speed.py: what is timed, how, the machine that it is timed on, and the table."""
