import functools

import pytest


@pytest.fixture(autouse=True, scope="package")
def rough_bayesian_optimization():
    """KerasTuner looks for the best next trial with one step from each of 50 points.

    No test depends on which trial its regression proposes, and all steps take seconds.
    """
    bayesian = pytest.importorskip("keras_tuner.src.tuners.bayesian")
    minimize = bayesian.scipy.optimize.minimize

    @functools.wraps(minimize)
    def roughly(function, x0, **options):
        if "jac" in options:  # the regression itself
            return minimize(function, x0, **options)
        return minimize(function, x0, options={"maxiter": 1}, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bayesian.scipy.optimize, "minimize", roughly)
        yield
