"""The parts of learning.py: which cases there are, training and scoring one, and what is shown of them."""
