"""Rewrites of the converted graph: one file a rewrite."""
