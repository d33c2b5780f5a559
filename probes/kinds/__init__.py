"""One real head of each kind that probes find, in the embedded models: what `found.json` says, and how it was made."""
