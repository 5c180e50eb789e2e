"""Write what the snapshot tests compare with: run by hand, when a release changes it on purpose.

python tests/models/write_snapshots.py paths    # names and shapes of all weights
python tests/models/write_snapshots.py saved    # .keras files of this release, with answers
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
import numpy as np

sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import FAMILIES, MODELS, describe
from test_models import save_with_answers, trained

import keras_mixers as km

if sys.argv[1] == "paths":
    for case in MODELS:
        path = HERE / "paths" / f"{case.id}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(describe(case.make()))
elif sys.argv[1] == "saved":
    folder = HERE / "saved" / km.__version__
    folder.mkdir(parents=True)
    for case in FAMILIES:
        # Trained a little: BatchNorm's averages and the optimizer's slots must come back too.
        save_with_answers(trained(case, np.arange(8) % 5, epochs=3), case, folder, case.id)
