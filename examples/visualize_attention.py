"""Attention made visible: train a ViT of one layer, then look at what its patches attend to.

    python examples/visualize_attention.py                       # the bundled digits
    python examples/visualize_attention.py --heads 1             # one head instead of four
    python examples/visualize_attention.py --dataset cifar10     # any TFDS name, or a folder
    python examples/visualize_attention.py --model out/model.keras     # one that is trained

Images are 72 x 72 pixels in patches of 6 x 6, so each of 144 patches attends to 144. The output
folder gets attention_matrix.png (all of them), attention_object.png and attention_background.png
(one query each, over the image), attention.gif (the query moves), rollout.png, relevance.png,
distance.png, positions.png, filters.png, explorer.html (a page to explore 8 images by hand),
model.keras and history.png. On 2 CPU cores it takes three minutes.
"""

import argparse
import dataclasses
import pathlib

import keras
import numpy as np

import keras_mixers as km


def parser(description, **defaults):
    """The flags that both examples of looking inside have."""
    made = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--dataset", default="digits", help="digits, a name in TFDS, or a folder")
    made.add_argument("--model", type=pathlib.Path, help="a .keras file to look into")
    made.add_argument("--image-size", type=int, help="pixels to resize to")
    made.add_argument("--patch-size", type=int, help="pixels")
    made.add_argument("--depth", type=int, help="blocks")
    made.add_argument("--epochs", type=int, default=40, help="of the recipe 'small'")
    made.add_argument("--weight-decay", type=float, help="strong: what is not needed fades")
    made.add_argument("--image", type=int, default=0, help="which test image the pictures show")
    made.add_argument("--seed", type=int, default=0, help="of weights, order and draws")
    made.add_argument("--output", type=pathlib.Path, default=pathlib.Path("looked"), help="folder")
    made.set_defaults(**defaults)
    return made


def build(args, info):
    """A ViT without a class token."""
    return km.ViT(
        "Ti/16",
        input_shape=info.input_shape,
        patch_size=args.patch_size,
        hidden_dim=64,
        depth=args.depth,
        num_heads=args.heads,
        mlp_dim=128,
        num_classes=info.num_classes,
        pool="gap",
    )


def model_and_images(args, build):
    """A model, read or trained here, and test images: (model, images, labels, class names)."""
    if args.model:
        model = keras.models.load_model(args.model)
        size = model.input_shape[1:3]
        _, test, info = km.data.load(args.dataset, image_size=size, batch_size=64)
        args.output.mkdir(parents=True, exist_ok=True)
    else:
        model, test, info = train(args, build)
    images, labels = next(iter(test))
    if not 0 <= args.image < len(images):
        raise ValueError(
            f"--image must be from 0 to {len(images) - 1}. Received: --image {args.image}"
        )
    return model, np.asarray(images), np.asarray(labels), info.class_names


def train(args, build):
    """A model trained by the recipe "small": (model, test data, info)."""
    small = km.recipes()["small"]
    warmup = small.warmup_epochs * args.epochs / small.epochs
    recipe = dataclasses.replace(
        small, epochs=args.epochs, warmup_epochs=warmup, weight_decay=args.weight_decay
    )
    batches, test, info = km.data.load(
        args.dataset,
        image_size=args.image_size,
        batch_size=recipe.batch_size,
        augmentation=recipe.augmentation,
        seed=args.seed,
    )
    keras.utils.set_random_seed(args.seed)
    model = build(args, info)
    recipe.compile(model, len(batches))
    args.output.mkdir(parents=True, exist_ok=True)
    history = model.fit(
        batches, validation_data=test, epochs=recipe.epochs, shuffle=False, verbose=2
    )
    model.save(args.output / "model.keras")
    save(km.visualize.plot_history(history), args.output / "history.png")
    return model, test, info


def save(figure, path):
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def object_and_background(image, grid):
    """The (row, column) of the evenest patch, and of the one that is least like it."""
    height, width = grid.patch_size
    patches = image.reshape(grid.rows, height, grid.columns, width, -1)
    evenest = int(patches.std(axis=(1, 3, 4)).argmin())
    brightness = patches.mean(axis=(1, 3, 4)).ravel()
    least_like = int(np.abs(brightness - brightness[evenest]).argmax())
    return {
        "object": divmod(least_like, grid.columns),
        "background": divmod(evenest, grid.columns),
    }


def look(model, images, number, class_names, output):
    """All pictures of one image, and the page of eight."""
    visualize, image = km.visualize, images[number]
    (last,) = km.attention_maps(model, images[:1], layers=-1).values()
    grid = km.probe.token_grid(model, last.shape[-1])
    for name, query in object_and_background(image, grid).items():
        figure = visualize.plot_attention(model, image, query=query)
        save(figure, output / f"attention_{name}.png")
    save(visualize.plot_attention_matrix(model, image), output / "attention_matrix.png")
    save(visualize.plot_attention_distance(model, images), output / "distance.png")
    save(visualize.plot_position_similarity(model), output / "positions.png")
    save(visualize.plot_patch_filters(model), output / "filters.png")
    save(visualize.plot_attention_rollout(model, image), output / "rollout.png")
    relevance = visualize.plot_relevance(model, image, class_names=class_names)
    save(relevance, output / "relevance.png")
    print(f"wrote {visualize.animate_attention(model, image, output / 'attention.gif')}")
    explore(model, images, class_names, output)


def explore(model, images, class_names, output):
    """The page to explore the first eight images by hand."""
    page = km.visualize.attention_explorer(
        model, images[:8], output / "explorer.html", class_names=class_names
    )
    print(f"wrote {page}: open it in a browser")


def main():
    flags = parser(__doc__.split("\n")[0], image_size=72, patch_size=6, depth=1, weight_decay=2.0)
    flags.add_argument("--heads", type=int, default=4, help="of the attention")
    args = flags.parse_args()
    try:
        model, images, labels, class_names = model_and_images(args, build)
        look(model, images, args.image, class_names, args.output)
    except (ValueError, TypeError, OSError) as error:  # a flag that will not do, and why
        raise SystemExit(f"visualize_attention.py: {error}") from None
    print(f"The pictures show test image {args.image}, a {class_names[labels[args.image]]!r}.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nvisualize_attention.py: interrupted") from None
