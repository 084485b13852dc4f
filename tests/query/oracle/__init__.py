"""The same questions answered slowly, from the rows in memory. Nothing here imports what it judges."""
