"""The dashboard: pages that show what a head does. No arithmetic and no figure code lives here."""
