"""The command `keras-mixers`, also as `python -m keras_mixers`: one file for each of its commands.

`--help` and wrong flags are answered before Keras and the rest of the package are imported, which
takes seconds. So the modules of this folder import them late, in the functions that need them.
"""
