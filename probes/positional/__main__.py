"""`python -m probes.positional`: the family as a script."""

from probes.cli import main

if __name__ == "__main__":
    main("positional")
