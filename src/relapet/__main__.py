"""``python -m relapet``: the command line, as torchrun and other launchers call it."""

from relapet.cli import entry_point

if __name__ == "__main__":
    entry_point()
