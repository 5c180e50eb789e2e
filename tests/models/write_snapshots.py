"""Write the files that the snapshot tests compare with.

Run it by hand if a release changes them on purpose.

python tests/models/write_snapshots.py paths    # names and shapes of all weights
python tests/models/write_snapshots.py saved    # .keras files of this release, with their outputs
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
import numpy as np

sys.path[:0] = [str(HERE), str(HERE.parent)]

from cases import FAMILIES, MODELS, describe
from test_models import save_with_outputs, trained

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
        # Trained, because BatchNorm's averages and the optimizer's moments must load too.
        save_with_outputs(trained(case, np.arange(8) % 5, epochs=3), case, folder, case.id)
