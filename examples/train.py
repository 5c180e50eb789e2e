"""Train a small ViT on handwritten digits, save it, and export it: the whole way in one page.

    python examples/train.py

Copy it and change the names: any TFDS dataset or folder of images, any builder, any recipe. On 2
CPU cores, training takes about a minute and reaches 99 % test accuracy. `keras-mixers train` does
the same with flags, and resumes after an interruption.
"""

import pathlib

import keras

import keras_mixers as km

DATASET = "digits"
OUTPUT = "out/first"
RECIPE = km.recipes()["small"]


def main():
    folder = pathlib.Path(OUTPUT)
    folder.mkdir(parents=True, exist_ok=True)
    train, test, info = km.data.load(
        DATASET, image_size=16, batch_size=RECIPE.batch_size, augmentation=RECIPE.augmentation
    )
    keras.utils.set_random_seed(0)
    model = km.ViT(
        "Ti/16",
        input_shape=info.input_shape,
        num_classes=info.num_classes,
        patch_size=4,
        hidden_dim=64,
        depth=4,
        num_heads=2,
        mlp_dim=128,
    )
    model.set_info(info)  # its files then have the preprocessing and the class names
    RECIPE.compile(model, steps_per_epoch=len(train))
    # `shuffle=False`, because `train` is a new permutation in each epoch.
    history = model.fit(train, validation_data=test, epochs=RECIPE.epochs, shuffle=False)

    print(km.evaluate(model, test))
    km.visualize.plot_history(history.history).savefig(folder / "history.png", dpi=120)
    model.save(folder / "model.keras")
    print(km.export(model, folder / "model.onnx"))
    print(km.export(model, folder / "saved_model"))


if __name__ == "__main__":
    main()
