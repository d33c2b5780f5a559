"""`python -m probes.kinds RESULTS/heads.json...` writes `found.json` anew from results on the embedded corpus."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from attnlens.files import write_text
from probes.kinds.recipe import kinds_document

if __name__ == "__main__":
    documents = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
    target = Path(__file__).with_name("found.json")
    write_text(target, json.dumps(kinds_document(documents), indent=1, ensure_ascii=False) + "\n")
