"""Guided similarity separation (GSS): retriever, training, choice of options."""
