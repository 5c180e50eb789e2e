"""For a wrong file the error names the fault, and every weight of the model is unchanged."""

import io
import json
import struct
import zipfile

import goldens
import keras
import numpy as np
import pytest

import keras_mixers as km

VIT = "timm_vit.safetensors"
GOOGLE = "google_vit_token.npz"
QUERY = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"


@pytest.fixture(scope="module")
def models():
    return {name: goldens.make(name) for name in (VIT, GOOGLE)}


def refuse(model, path, *messages, error=ValueError, **how):
    """Assert that loading fails with all the messages and that no weight changes."""
    before = model.get_weights()
    with pytest.raises(error) as caught:
        km.load_weights(model, path, **how)
    for message in messages:
        assert message in str(caught.value)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def without(key):
    return lambda arrays: {k: v for k, v in arrays.items() if k != key}


def renamed(key, other):
    return lambda arrays: {other if k == key else k: v for k, v in arrays.items()}


def changed(key, change):
    return lambda arrays: {k: change(v) if k == key else v for k, v in arrays.items()}


def with_value(value):
    def change(array):
        array = array.copy()
        array.flat[3] = value
        return array

    return change


def with_another_block(arrays):
    return arrays | {
        k.replace("blocks.1.", "blocks.2."): v for k, v in arrays.items() if "blocks.1." in k
    }


def without_last_block(arrays):
    return {k: v for k, v in arrays.items() if "blocks.1." not in k}


QKV = "blocks.0.attn.qkv.weight"
BAD = {
    "missing": (
        VIT,
        without(QKV),
        [f"'{QKV}' for block_0_attention/attention/qkv/kernel (64, 192)"],
    ),
    "missing bias": (VIT, without("norm.bias"), ["'norm.bias' for norm/beta (64,)"]),
    "extra": (
        VIT,
        lambda arrays: arrays | {"blocks.0.attn.surprise": np.ones(3, "float32")},
        ["without a place in the model", "'blocks.0.attn.surprise' (3,)"],
    ),
    "misspelt": (
        VIT,
        renamed("blocks.1.mlp.fc1.bias", "blocks.1.mlp.fcl.bias"),
        ["'blocks.1.mlp.fcl.bias' (256,). Did you mean 'blocks.1.mlp.fc1.bias'?"],
    ),
    "one block too many": (VIT, with_another_block, ["the file has 3 blocks, the model has 2"]),
    "one block too few": (
        VIT,
        without_last_block,
        ["the file has 1 blocks, the model has 2", "and 7 more"],
    ),
    "integers": (
        VIT,
        changed(QKV, lambda a: a.astype("int32")),
        [f"'{QKV}' must have a float dtype", "I32", "(192, 64)"],
    ),
    "nan": (
        VIT,
        changed(QKV, with_value(np.nan)),
        [f"'{QKV}' must be finite", "1 NaN or infinite values"],
    ),
    "inf": (VIT, changed("pos_embed", with_value(np.inf)), ["'pos_embed' must be finite"]),
    "transposed": (
        VIT,
        changed(QKV, np.transpose),
        [f"'{QKV}' has shape (64, 192), block_0_attention/attention/qkv/kernel needs (192, 64)"],
    ),
    "heads and width swapped": (
        GOOGLE,
        changed(QUERY, lambda a: a.transpose(1, 2, 0)),
        [f"'{QUERY}' has shape (4, 16, 64)", "needs (64, 4, 16)"],
    ),
    "another number of heads": (
        GOOGLE,
        changed(QUERY, lambda a: a.reshape(64, 8, 8)),
        [f"'{QUERY}' has shape (64, 8, 8)", "needs (64, 4, 16)"],
    ),
    "another width": (
        VIT,
        changed("norm.weight", lambda a: a[:32]),
        ["'norm.weight' has", "(32,)"],
    ),
    "positions of another grid": (
        VIT,
        changed("pos_embed", lambda a: a[:, :10]),
        ["'pos_embed' has shape (1, 10, 64)", "needs (1, 17, 64)", "with adapt=True:"],
    ),
    "one weight by two names": (
        VIT,
        lambda arrays: arrays | {"_orig_mod.norm.bias": arrays["norm.bias"]},
        ["must name each weight once", "norm.bias', which mean the same"],
    ),
    "unknown format": (
        VIT,
        lambda arrays: {"a": np.ones(3)},
        ["`source` must name its weights as one of the known formats"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_arrays_are_refused(case, models, tmp_path):
    name, change, messages = BAD[case]
    path = tmp_path / name
    refuse(models[name], goldens.write(change(goldens.arrays(name)), path), *messages)


@pytest.mark.parametrize("name", [VIT, GOOGLE])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(name, share, models, tmp_path):
    whole = (goldens.FOLDER / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: int(share * len(whole))])
    refuse(models[name], path, "`source`")


def npy(header_shape, data=b"", dtype="<f4"):
    """An .npy member that declares any shape and dtype."""
    stream = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": header_shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + data


def google_with(path, members):
    """Write the golden file with some members replaced by raw bytes."""
    with zipfile.ZipFile(goldens.FOLDER / GOOGLE) as source, zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            key = info.filename.removesuffix(".npy")
            target.writestr(info.filename, members.get(key, source.read(info)))
    return path


def test_declared_shapes_are_checked_before_reading(models, tmp_path):
    bomb = npy((2**40, 64))
    path = google_with(tmp_path / "bomb.npz", {"head/kernel": bomb, "head/bias": npy((2**40,))})
    refuse(models[GOOGLE], path, "(1099511627776, 64)", head="keep")
    path = google_with(tmp_path / "bomb.npz", {"embedding/kernel": bomb})
    refuse(models[GOOGLE], path, "'embedding/kernel' has shape (1099511627776, 64)")
    path = google_with(tmp_path / "bomb.npz", {"cls": npy((1,) * 9)})
    refuse(models[GOOGLE], path, "'cls' of dtype float32 and shape (1, 1, 1, 1, 1, 1, 1, 1, 1)")
    for shape in ((2**62, 2**62), (-1, 64), (True, 64)):
        for key in ("cls", "head/kernel", "head/bias"):
            path = google_with(tmp_path / "bomb.npz", {key: npy(shape)})
            refuse(models[GOOGLE], path, f"'{key}' of dtype float32 and shape {shape}")
    for count in (2**45, 2**50):
        path = google_with(tmp_path / "bomb.npz", {"head/bias": npy((count,))})
        refuse(models[GOOGLE], path, f"'head/bias' has shape ({count},)")


def test_arrays_shorter_than_declared_are_refused(models, tmp_path):
    path = google_with(tmp_path / "short.npz", {"cls": npy((1, 1, 64), b"\0" * 100)})
    refuse(models[GOOGLE], path, "damaged or cut short at 'cls.npy'")


def test_pickles_are_refused(models, tmp_path):
    arrays = goldens.arrays(GOOGLE)
    path = tmp_path / "objects.npz"
    np.savez(path, **{**arrays, "cls": np.array([{"a": 1}], dtype=object)}, allow_pickle=True)
    refuse(models[GOOGLE], path, "plain arrays of numbers", "'cls' of dtype object")
    structured = np.zeros(3, dtype=[("a", "f4")])
    refuse(
        models[GOOGLE],
        goldens.write({**arrays, "cls": structured}, tmp_path / "structured.npz"),
        "plain arrays of numbers",
    )


def test_duplicate_names_are_refused(models, tmp_path):
    path = google_with(tmp_path / "twice.npz", {})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("cls.npy", npy((1, 1, 64), b"\0" * 256))
    refuse(models[GOOGLE], path, "holds 'cls' twice")


def test_files_of_another_family_are_refused(models):
    refuse(
        models[VIT],
        goldens.FOLDER / "timm_mixer.safetensors",
        "these blocks: attention",
        "a timm MLP-Mixer file",
    )


def test_files_of_other_kinds_are_refused(models, tmp_path):
    model = models[VIT]
    path = tmp_path / "notes.txt"
    path.write_text("hello, world; a note")
    refuse(model, path, "`source` must be an .npz, .safetensors", "b'hello, w'")
    path.write_bytes(b"")
    refuse(model, path, "`source` must be an .npz")
    refuse(model, tmp_path / "none.npz", "`source` must be a file", error=FileNotFoundError)
    refuse(model, tmp_path, "`source` must be a file", error=FileNotFoundError)
    refuse(model, 3, "`source` must be a string or a path. Received: source=3", error=TypeError)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"head": "no"}, "`head` must be one of 'auto', 'keep', 'skip'"),
        ({"head": True}, "`head` must"),
        ({"adapt": 1}, "`adapt` must be True or False"),
        ({"position_method": "cubic"}, "`position_method` must"),
    ],
)
def test_load_weights_refuses_bad_arguments(how, message, models):
    error = TypeError if "adapt" in how or how == {"head": True} else ValueError
    refuse(models[VIT], goldens.FOLDER / VIT, message, error=error, **how)


def renamed_model(model):
    config = model.get_config()
    return keras.Model.from_config({**config, "name": "other"})


def test_unsuitable_models_are_refused():
    path = goldens.FOLDER / VIT
    with pytest.raises(TypeError, match=r"`model` must be a keras\.Model"):
        km.load_weights("model", path)
    with pytest.raises(ValueError, match="`model` must be a functional or Sequential"):
        km.load_weights(keras.Sequential([keras.layers.Dense(3)]), path)
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="`model` must contain one PatchEmbed.* with 0"):
        km.load_weights(plain, path)
    one = goldens.make(VIT, num_classes=0)
    other = renamed_model(one)
    both = keras.Model(one.input, keras.layers.Add()([one.output, other(one.input)]))
    with pytest.raises(ValueError, match="with 2; if there are more, pass an inner model"):
        km.load_weights(both, path)
    km.load_weights(other, path)


def test_misplaced_mixers_are_refused():
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            km.layers.PatchEmbed(64, 8),
            km.layers.Residual(km.layers.ChannelMixing(8), name="first"),
        ]
    )
    with pytest.raises(
        ValueError, match="must alternate.*'first' with ChannelMixing where .* tokens"
    ):
        km.load_weights(model, goldens.FOLDER / VIT)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            km.layers.PatchEmbed(64, 8),
            km.layers.Residual(keras.layers.Dense(64)),
        ]
    )
    with pytest.raises(ValueError, match="must have mixers that declare .*Dense in layer"):
        km.load_weights(model, goldens.FOLDER / VIT)


def test_shared_layers_are_refused():
    shared = km.layers.ChannelMixing(256)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            km.layers.PatchEmbed(64, 8),
            *(
                km.layers.Residual(mixer)
                for _ in range(2)
                for mixer in (km.layers.MultiHeadSelfAttention(4), shared)
            ),
        ]
    )
    with pytest.raises(ValueError, match="`model` must use each layer once"):
        km.load_weights(model, goldens.FOLDER / VIT)


def test_stacks_of_too_many_blocks_are_refused(models, tmp_path):
    members = {"cls": npy((1, 1, 64), b"\0" * 256)}
    path = google_with(tmp_path / "scan.npz", members)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Transformer/encoderblock/LayerNorm_0/scale.npy", npy((2**40, 64)))
    refuse(models[GOOGLE], path, "must hold at most 1000 blocks", "(1099511627776, 64)")


def test_adapt_refuses_huge_arrays(models, tmp_path):
    key = "Transformer/posembed_input/pos_embedding"
    for shape in ((1, 1 + 2**40, 64), (1, 1 + 2**20, 64)):
        path = google_with(tmp_path / "bomb.npz", {key: npy(shape)})
        refuse(models[GOOGLE], path, f"{key!r} has shape {shape}", adapt=True)
    path = google_with(tmp_path / "bomb.npz", {"embedding/kernel": npy((2**20, 2**20, 3, 64))})
    refuse(models[GOOGLE], path, "'embedding/kernel' has shape (1048576, ", adapt=True)


def test_overflow_to_float16_is_refused(tmp_path):
    arrays = changed("norm.weight", lambda a: a * 1e6)(goldens.arrays(VIT))
    path = goldens.write(arrays, tmp_path / "big.safetensors")
    refuse(goldens.make(VIT, dtype="float16"), path, "'norm.weight' must be finite as float16")


@pytest.mark.parametrize("name", [VIT, GOOGLE])
def test_flipped_bits_are_refused_or_load_completely(name, models, tmp_path):
    """Any damage raises a `ValueError`, and then no weight changes."""
    whole = (goldens.FOLDER / name).read_bytes()
    generator = np.random.default_rng(0)
    model, path = models[name], tmp_path / name
    before = model.get_weights()
    refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            damaged[position] ^= 1 << int(generator.integers(8))
        damaged[int(generator.integers(0, 400))] ^= 255
        path.write_bytes(damaged)
        try:
            km.load_weights(model, path)
        except ValueError:
            refused += 1
            for one, other in zip(before, model.get_weights(), strict=True):
                np.testing.assert_array_equal(one, other)
        else:
            model.set_weights(before)
    assert refused > 20


def test_two_tables_of_positions_are_refused(models, tmp_path):
    arrays = changed("pos_embed", lambda a: np.repeat(a[:, :10], 2, axis=0))(goldens.arrays(VIT))
    path = goldens.write(arrays, tmp_path / "two.safetensors")
    refuse(models[VIT], path, "'pos_embed' has shape (2, 10, 64)", adapt=True)


def test_weights_without_a_name_are_listed(tmp_path):
    model = goldens.make(VIT, score="bilinear")
    message = "without a name in timm ViT files"
    refuse(model, goldens.FOLDER / VIT, message, "score_kernel (4, 16, 16)")


GRIDS = [
    '["a", "b"]', "[-4, -4]", "[4]", "4", "{", "[2.0, 8.0]", "[null, null]", "[true, true]", "",
    "[" * 100_000, "[" + "9" * 5000 + ", 1]", "[1e400, 4]", "[0, 16]", "[1048577, 1]", "null",
]  # fmt: skip


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid[:12])
def test_wrong_stored_grids_are_refused(grid, models, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "grid.safetensors"
    save_file(goldens.arrays(VIT), path, metadata={"keras_mixers.grid": grid})
    for adapt in (False, True):
        refuse(models[VIT], path, "`source` is damaged", "'keras_mixers.grid'", adapt=adapt)
    if len(grid) > 60_000:
        return  # because the comment of a zip file is shorter
    path = km.save_weights(models[VIT], tmp_path / "grid.npz", format="google")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = json.dumps({"keras_mixers.grid": grid}).encode()
    refuse(models[VIT], path, "`source` is damaged", "'keras_mixers.grid'")


@pytest.mark.parametrize("comment", [b"", b"from my laboratory", b"\xff", b"{}"])
def test_npz_files_may_have_any_comment(comment, models, tmp_path):
    path = km.save_weights(models[VIT], tmp_path / "w.npz", format="google")
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = comment
    assert km.load_weights(models[VIT], path).adapted == {}


def safetensors_with(path, change):
    """Write the golden file with another header; `change` receives it and returns JSON or bytes."""
    whole = (goldens.FOLDER / VIT).read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    header = change(json.loads(whole[8 : 8 + length]))
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    return path


def declaring(**parts):
    return lambda header: {**header, QKV: {**header[QKV], **parts}}


HEADERS = {
    "no JSON": lambda _: b"{",
    "deep": lambda _: b'{"a":' + b"[" * 100_000,
    "text": lambda header: {**header, QKV: "text"},
    "twice": lambda header: json.dumps(header)[:-1].encode() + b', "norm.bias": {}}',
    "metadata": lambda header: {**header, "__metadata__": [4]},
    "metadata of numbers": lambda header: {**header, "__metadata__": {"keras_mixers.grid": 4}},
    "dtype": declaring(dtype="F31"),
    "dtype list": declaring(dtype=[]),
    "shape": declaring(shape=4),
    "negative": declaring(shape=[-192, -64]),
    "bool": declaring(shape=[True, 192 * 64]),
    "float": declaring(shape=[192.0, 64.0]),
    "null": declaring(shape=[None, None]),
    "huge": declaring(shape=[2**62, 2**62]),
    "axes": declaring(shape=[1] * 9),
    "offsets": declaring(data_offsets=[0, 2**63]),
    "offset": declaring(data_offsets=[0]),
    "overlap": lambda header: {
        **header,
        "blocks.0.norm1.bias": {**header["blocks.0.norm1.bias"], **header["blocks.0.norm2.bias"]},
    },
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers_are_refused(case, models, tmp_path):
    path = safetensors_with(tmp_path / "w.safetensors", HEADERS[case])
    refuse(models[VIT], path, "`source` is damaged or cut short")


def test_long_headers_are_refused_at_once(models, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 2**24) + b"{}" * 100)
    refuse(models[VIT], path, "`source` is damaged", "16777216 bytes at 8 in a file of 208")
    path.write_bytes(struct.pack("<Q", 2**24 + 1) + b"{}" * 100)
    refuse(models[VIT], path, "`source` must be an .npz, .safetensors")
    keys = {f"key{i}": np.zeros(1, "float32") for i in range(10_000)}
    path = goldens.write({**goldens.arrays(VIT), **keys}, path)
    refuse(models[VIT], path, "'key0' (1,)", "and 9995 more")


@pytest.mark.parametrize("name", [VIT, GOOGLE])
def test_empty_arrays_are_refused(name, models, tmp_path):
    arrays = goldens.arrays(name)
    for i, (key, array) in enumerate(arrays.items()):
        empty = np.take(array, [], axis=i % array.ndim)
        path = goldens.write({**arrays, key: empty}, tmp_path / name)
        refuse(models[name], path, f"'{key}' must not be empty", adapt=bool(i % 2))


@pytest.mark.parametrize("key", ["cls_token", "pos_embed"])
@pytest.mark.parametrize("more", [{}, {"pool": "gap"}, {"input_shape": (48, 48, 3)}])
def test_three_tables_are_refused(key, more, tmp_path):
    arrays = changed(key, lambda a: np.repeat(a, 3, axis=0))(goldens.arrays(VIT))
    path = goldens.write(arrays, tmp_path / "three.safetensors")
    for adapt in (False, True):
        refuse(goldens.make(VIT, **more), path, "`source` does not fit the model", adapt=adapt)


def test_three_class_tokens_are_not_skipped(tmp_path):
    name = "timm_deit3.safetensors"  # whose class token has no position
    arrays = changed("cls_token", lambda a: np.repeat(a, 3, axis=0))(goldens.arrays(name))
    path = goldens.write(arrays, tmp_path / "three.safetensors")
    refuse(goldens.make(name, pool="gap"), path, r"'cls_token' (3, 1, 64)", adapt=True)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_without_a_limit_is_refused(method, models, tmp_path):
    path = tmp_path / "w.npz"
    with zipfile.ZipFile(goldens.FOLDER / GOOGLE) as source:
        with zipfile.ZipFile(path, "w", method) as target:
            for name in source.namelist():
                target.writestr(name, source.read(name))
    refuse(models[GOOGLE], path, "is not stored or deflated")


def test_arrays_longer_than_declared_are_refused(models, tmp_path):
    path = google_with(tmp_path / "long.npz", {"cls": npy((1, 1, 64), bytes(257))})
    refuse(models[GOOGLE], path, "at 'cls.npy'", "more data than the header declares")


class Path:
    def __init__(self, value):
        self.value = value

    def __fspath__(self):
        return self.value


SOURCES = [
    b"w.safetensors", Path(b"w.npz"), Path(3), None, 3, 1.5, ["w.npz"], np.array("w"), io.BytesIO()
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_sources_that_are_no_paths_are_refused(source, models):
    refuse(models[VIT], source, "`source` must be a string or a path", error=TypeError)


def test_sources_that_cannot_be_files_are_refused(models):
    refuse(models[VIT], "a\0b", "`source` must not contain a null byte")
    refuse(models[VIT], "", "`source` must be a file", error=FileNotFoundError)
