"""The golden files: weights and outputs of small models from the original implementations."""

import contextlib
import json
import pathlib

import numpy as np
from backends import compute
from keras import ops

import keras_mixers as km

FOLDER = pathlib.Path(__file__).parent / "weights" / "golden"

_SIZE = {"hidden_dim": 64, "patch_size": 8, "input_shape": (32, 32, 3), "num_classes": 10}
_VIT = {**_SIZE, "depth": 2, "num_heads": 4, "mlp_dim": 256}
_GOOGLE = {**_VIT, "mlp_dim": 128, "activation": "gelu_tanh"}
_MIXER = {**_SIZE, "depth": 3, "tokens_mlp_dim": 32}
_CONV = {"input_shape": (32, 32, 3), "num_classes": 10, "patch_size": 4}

# File -> builder, variant, arguments.
GOLDENS = {
    "timm_vit.safetensors": (km.ViT, "Ti/16", _VIT),
    "timm_vit_rectangular.safetensors": (
        km.ViT,
        "Ti/16",
        {**_VIT, "depth": 3, "input_shape": (24, 48, 3)},
    ),
    "timm_deit_distilled.safetensors": (km.ViT, "Ti/16", {**_VIT, "distillation_token": True}),
    "timm_deit3.safetensors": (km.ViT, "DeiT3-S/16", _VIT),
    "timm_vit_registers_layerscale_gap.safetensors": (
        km.ViT,
        "DeiT3-S/16",
        {**_VIT, "num_registers": 4, "pool": "gap"},
    ),
    "timm_mixer.safetensors": (km.MLPMixer, "S/16", {**_MIXER, "channels_mlp_dim": 256}),
    "timm_convmixer.safetensors": (
        km.ConvMixer,
        "1536/20",
        {**_CONV, "hidden_dim": 48, "depth": 3, "kernel_size": 5},
    ),
    "timm_convmixer_relu.safetensors": (
        km.ConvMixer,
        "768/32",
        {**_CONV, "hidden_dim": 32, "depth": 2},
    ),
    "google_vit_token.npz": (km.ViT, "Ti/16", _GOOGLE),
    "google_vit_prelogits.npz": (
        km.ViT,
        "Ti/16",
        {
            **_GOOGLE,
            "hidden_dim": 48,
            "depth": 3,
            "num_heads": 3,
            "mlp_dim": 96,
            "input_shape": (40, 40, 3),
            "num_classes": 7,
            "representation_size": 40,
        },
    ),
    "google_mixer.npz": (
        km.MLPMixer,
        "S/16",
        {**_MIXER, "channels_mlp_dim": 128, "activation": "gelu_tanh"},
    ),
}


def make(name, **more):
    """A model of the golden file's architecture; `more` replaces arguments."""
    builder, variant, arguments = GOLDENS[name]
    return builder(variant, **{**arguments, **more})


def answers(name):
    """The images, the original's logits and, for timm's ViTs, the first block's attention."""
    with np.load(FOLDER / f"{name.split('.')[0]}.io.npz") as arrays:
        return dict(arrays)


def arrays(name):
    """`{key: array}` of the file."""
    return read(FOLDER / name)


def read(path):
    """`{key: array}` of any npz, safetensors or torch file."""
    from keras_mixers.weights import checkpoint
    from keras_mixers.weights.source import Source

    with Source(path) as source:
        entries, _ = checkpoint.read_entries(source, checkpoint.container(source))
        return {key: entry.read() for key, entry in entries.items()}


def write(arrays, path):
    """Write a file whose kind follows from the path's suffix."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path)
    return path


def write_shards(name, folder):
    """Write a golden file as two files and an index, whose path it returns."""
    found, files = arrays(name), {}
    folder.mkdir(exist_ok=True)
    for i, keys in enumerate(np.array_split(sorted(found), 2)):
        file = f"model-{i}.safetensors"
        write({key: found[key] for key in keys}, folder / file)
        files |= dict.fromkeys(keys.tolist(), file)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files}))
    return path


@contextlib.contextmanager
def unchanged(model):
    """A scope after which the weights of a model must be equal to those before."""
    before = model.get_weights()
    yield
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def unnamed_roles(model, format):
    """The roles of a model's weights that have no name in a format, `"timm"` or `"google"`."""
    from keras_mixers.weights.formats import FORMATS
    from keras_mixers.weights.roles import index_weights

    backbone = index_weights(model)
    forms = [form for form in FORMATS if form.name.lower().startswith(format)]
    form = next(form for form in forms if set(backbone.mixers) <= form.mixers)
    return [role for role in backbone.roles if not form.for_role(role)]


def assert_golden(model, name, atol=1e-5):
    """Assert that the model's logits equal the original's, except for `atol`."""
    expected = answers(name)
    found = ops.convert_to_numpy(compute(model, expected["image"], training=False))
    np.testing.assert_allclose(found, expected["logits"], rtol=0, atol=atol)
