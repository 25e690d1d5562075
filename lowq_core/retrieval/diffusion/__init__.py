"""Ranking by diffusion on the database's nearest-neighbour graph."""
