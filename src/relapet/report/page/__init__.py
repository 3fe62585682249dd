"""Report pages: one HTML file each that opens from disk and asks nothing of a network."""

from relapet.evaluation.folder import REPORT

PAGE = REPORT
"""Name of the page in the folder that it is of; pages of single visits lie in a folder of its stem beside it."""
