"""`python -m probes.syntax` does what `attnlens probe syntax` does."""

from probes.cli import main

if __name__ == "__main__":
    main("syntax")
