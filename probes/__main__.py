"""`python -m probes` is `attnlens probe`."""

from __future__ import annotations

from probes.cli import main

if __name__ == "__main__":
    main()
