"""`python -m probes.induction`: the family as a script."""

from probes.cli import main

if __name__ == "__main__":
    main("induction")
