"""`python -m keras_mixers`, which is `keras-mixers`."""

from keras_mixers.commands.main import main

if __name__ == "__main__":
    main()
