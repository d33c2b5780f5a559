"""How far the label rule can be trusted: precision, recall and calibration on models whose heads are known."""
