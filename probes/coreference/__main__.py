"""`python -m probes.coreference` does what `attnlens probe coreference` does."""

from probes.cli import main

if __name__ == "__main__":
    main("coreference")
