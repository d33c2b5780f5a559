"""The command line: parsing and printing only.

Commands are plain functions found through the entry points `attnlens.commands`, the built-in ones like anyone
else's, and each module is imported when its command is asked for.
"""

from __future__ import annotations

from attnlens.cli.run import main

__all__ = ["main"]
