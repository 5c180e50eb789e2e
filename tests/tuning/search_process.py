"""One process of a search. KerasTuner's environment variables can make it a chief or a worker."""

import pathlib
import sys
import time
import warnings

import keras_tuner

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from scored import OutOfMemory, tiny_memory

import keras_mixers as km


def main(folder, seconds):
    warnings.simplefilter("ignore")
    train = OutOfMemory._train

    def slow(self, *arguments):
        time.sleep(float(seconds))
        return train(self, *arguments)

    OutOfMemory._train = slow
    space = tiny_memory()
    tuner = keras_tuner.RandomSearch(
        space, "val_accuracy", max_trials=8, seed=1, directory=folder, project_name="search"
    )
    km.tuning.within_budget(tuner, keep=2)
    tuner.search(verbose=0)
    if hasattr(tuner.oracle, "trials"):  # because a worker's client has none
        print(len(tuner.oracle.trials), "trials")
        for reason in km.tuning.infeasible(tuner).values():
            print("infeasible", reason)


if __name__ == "__main__":
    main(*sys.argv[1:])
