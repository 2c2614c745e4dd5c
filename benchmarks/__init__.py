"""Measurements: how fast, beside what, on which machine. Figures are printed by these scripts and nowhere typed in."""
