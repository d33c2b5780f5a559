"""`python -m probes.lexical` does what `attnlens probe lexical` does."""

from probes.cli import main

if __name__ == "__main__":
    main("lexical")
