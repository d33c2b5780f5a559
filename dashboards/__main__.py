"""`python -m dashboards` is `attnlens serve`."""

from __future__ import annotations

import sys

from attnlens.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["serve"]
    main()
