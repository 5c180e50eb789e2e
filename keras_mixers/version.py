"""The version of the package. This file imports nothing, so that a build can read it."""

__version__ = "0.1.0"
