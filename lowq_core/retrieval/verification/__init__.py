"""Geometric verification: do the local features of two pictures agree on one transformation?

`rerank.Verification` matches descriptors and runs RANSAC; `dsm.DeepSpatialMatching` does without descriptors.
"""
