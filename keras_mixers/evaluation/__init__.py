"""Measure a classifier on a dataset: accuracy, confusion, calibration and worst mistakes."""

from keras_mixers.evaluation.evaluate import evaluate
from keras_mixers.evaluation.multi_label_report import LabelMistake, MultiLabelEvaluation
from keras_mixers.evaluation.report import Evaluation, Mistake

__all__ = ["Evaluation", "LabelMistake", "Mistake", "MultiLabelEvaluation", "evaluate"]
