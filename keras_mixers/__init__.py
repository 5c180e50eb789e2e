"""Isotropic vision backbones for Keras: ViT, MLP-Mixer, ConvMixer and their hybrids.

- Models: `ViT`, `MLPMixer`, `ConvMixer` and `Hybrid` build them in any size; `variants` has the
  published sizes. `create_model` creates a published model by a name of `list_models`. All return
  an `ImageModel`, which is a plain `keras.Model`. `keras_mixers.layers` has the parts.
- Weights: `load_weights`, `save_weights`, `pretrained`.
- Data and training: `keras_mixers.data`, `Recipe`, `recipes`, `keras_mixers.training`.
- Use and measure: `predict`, `evaluate`, `export`.
- Look inside: `keras_mixers.probe` returns arrays, and `keras_mixers.visualize` draws them.
- Hyperparameters: `keras_mixers.tuning`.
"""

from keras_mixers.commands.begin import begin

begin()  # here, because `keras-mixers --help` answers before the imports that take seconds

from keras_mixers import data, layers, probe, training, tuning, visualize
from keras_mixers.deprecation import renamed
from keras_mixers.evaluation import (
    Evaluation,
    LabelMistake,
    Mistake,
    MultiLabelEvaluation,
    evaluate,
)
from keras_mixers.exporting import ExportReport, export
from keras_mixers.models import (
    ConvMixer,
    Hybrid,
    ImageModel,
    MLPMixer,
    ViT,
    abstract_weights,
    count_flops,
    create_model,
    list_models,
    variants,
)
from keras_mixers.predicting import Prediction, predict
from keras_mixers.preprocessing import Preprocessing
from keras_mixers.probe import (
    attention_maps,
    attention_rollout,
    feature_maps,
    token_mixing_units,
)
from keras_mixers.training import Recipe, recipes
from keras_mixers.version import __version__
from keras_mixers.weights import (
    Checkpoint,
    LoadReport,
    load_weights,
    pretrained,
    save_weights,
)

__all__ = [
    "Checkpoint",
    "ConvMixer",
    "Evaluation",
    "ExportReport",
    "Hybrid",
    "ImageModel",
    "LabelMistake",
    "LoadReport",
    "MLPMixer",
    "Mistake",
    "MultiLabelEvaluation",
    "Prediction",
    "Preprocessing",
    "Recipe",
    "ViT",
    "__version__",
    "abstract_weights",
    "attention_maps",
    "attention_rollout",
    "count_flops",
    "create_model",
    "data",
    "evaluate",
    "export",
    "feature_maps",
    "layers",
    "list_models",
    "load_weights",
    "predict",
    "pretrained",
    "probe",
    "recipes",
    "save_weights",
    "token_mixing_units",
    "training",
    "tuning",
    "variants",
    "visualize",
]

shapes_alone = renamed("shapes_alone", abstract_weights)
