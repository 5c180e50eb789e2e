"""Visualize attention: train a ViT with one block, and draw what its patches attend to.

    python examples/visualize_attention.py                       # the digits data set
    python examples/visualize_attention.py --heads 1             # one head instead of four
    python examples/visualize_attention.py --dataset cifar10     # a TFDS name or a folder
    python examples/visualize_attention.py --model out/model.keras     # a trained model

Images are 72 x 72 pixels in patches of 6 x 6 pixels, so each of 144 patches attends to 144 patches.
On 2 CPU cores the script takes three minutes. It writes these files into the output folder:

    attention_matrix.png      the weights between all patches
    attention_object.png      the weights of one patch on the object, over the image
    attention_background.png  the weights of one patch in the background, over the image
    attention.gif             the same for every patch in turn
    rollout.png               how much each patch contributes to the output
    relevance.png             how much each patch supports the predicted class
    distance.png              the mean attention distance of each head
    positions.png             the similarity of the position embeddings
    filters.png               the filters of the patch embedding
    explorer.html             an interactive page with 8 images
    model.keras, history.png  the trained model and its learning curves
"""

import dataclasses

from command_line import start, visualization_parser


def parse_arguments():
    flags = visualization_parser(
        __doc__.split("\n")[0], image_size=72, patch_size=6, depth=1, weight_decay=2.0
    )
    flags.add_argument("--heads", type=int, default=4, help="attention heads")
    return flags.parse_args()


if __name__ == "__main__":
    start(parse_arguments)

import keras
import numpy as np

import keras_mixers as km
from keras_mixers.commands.folders import locked, refuse_to_overwrite, save_figure, save_model


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
    """(model, test images, labels, class names); the model is loaded or trained."""
    if args.model:
        model = keras.models.load_model(args.model)
        size = model.input_shape[1:3]
        _, test, info = km.data.load(args.dataset, image_size=size, batch_size=64)
    else:
        model, test, info = train(args, build)
    images, labels = next(iter(test))
    if not 0 <= args.image < len(images):
        raise ValueError(
            f"--image must be from 0 to {len(images) - 1}. Received: --image {args.image}"
        )
    return model, np.asarray(images), np.asarray(labels), info.class_names


def train(args, build):
    """Train a model with the recipe "small": (model, test data, info)."""
    refuse_to_overwrite(args, "model.keras")
    recipe = km.recipes()["small"].for_epochs(args.epochs)
    recipe = dataclasses.replace(recipe, weight_decay=args.weight_decay)
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
    history = model.fit(
        batches, validation_data=test, epochs=recipe.epochs, shuffle=False, verbose=2
    )
    save_model(model, args.output / "model.keras")
    save(km.visualize.plot_history(history), args.output / "history.png")
    return model, test, info


def save(figure, path):
    """Write a figure to a file, and print the path."""
    save_figure(figure, path, dpi=110)
    print(f"wrote {path}")


def object_and_background(image, grid):
    """The (row, column) of a patch on the object, and of one in the background.

    The background is the patch with the smallest variance. The object is the patch whose mean
    brightness differs most from that of the background.
    """
    height, width = grid.patch_size
    patches = image.reshape(grid.rows, height, grid.columns, width, -1)
    background = int(patches.std(axis=(1, 3, 4)).argmin())
    brightness = patches.mean(axis=(1, 3, 4)).ravel()
    object_ = int(np.abs(brightness - brightness[background]).argmax())
    return {
        "object": divmod(object_, grid.columns),
        "background": divmod(background, grid.columns),
    }


def draw_all(model, images, index, class_names, output):
    """Write all figures of one image, and the page for eight images."""
    visualize, image = km.visualize, images[index]
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
    """Write the interactive page for the first eight images."""
    page = km.visualize.attention_explorer(
        model, images[:8], output / "explorer.html", class_names=class_names
    )
    print(f"wrote {page}: open it in a browser")


def main():
    args = parse_arguments()
    try:
        with locked(args.output):
            model, images, labels, class_names = model_and_images(args, build)
            draw_all(model, images, args.image, class_names, args.output)
    except (ValueError, TypeError, OSError) as error:  # an invalid flag; the message names it
        raise SystemExit(f"visualize_attention.py: {error}") from None
    print(
        f"The figures show test image {args.image}, of class {class_names[labels[args.image]]!r}."
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nvisualize_attention.py: interrupted") from None
