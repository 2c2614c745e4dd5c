"""How results are printed and drawn."""
