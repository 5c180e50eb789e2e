"""The command `keras-mixers`, also as `python -m keras_mixers`: one file for each of its commands.

The modules of this folder import Keras and the rest of the package late, in the functions that
need them, because `--help` and wrong flags are answered before these imports, which take seconds.
"""
