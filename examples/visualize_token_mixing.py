"""Token mixing made visible: train an MLP-Mixer, then look at the hidden units of all its blocks.

    python examples/visualize_token_mixing.py                    # the bundled digits
    python examples/visualize_token_mixing.py --dataset cifar10  # any TFDS name, or a folder
    python examples/visualize_token_mixing.py --model out/model.keras    # one that is trained

Each hidden unit has a weight for every patch: a picture of what it looks for on the image. Strong
weight decay takes away what is left of the random beginning and not needed. The output folder gets
units_0.png, units_1.png, ... (the units of each block), activations_0.png, ... (how they answer to
the channels of an image), channels_0.png, ... (where hidden units of the channel mixing are
active), features.png, explorer.html (a page to explore 8 images by hand), model.keras and
history.png. On 2 CPU cores it takes three minutes.
"""

from visualize_attention import explore, model_and_images, parser, save

import keras_mixers as km


def build(args, info):
    """An MLP-Mixer."""
    return km.MLPMixer(
        "S/16",
        input_shape=info.input_shape,
        patch_size=args.patch_size,
        hidden_dim=64,
        depth=args.depth,
        tokens_mlp_dim=64,
        channels_mlp_dim=128,
        num_classes=info.num_classes,
    )


def look(model, images, number, class_names, output):
    """The pictures of each block, and the page of eight images."""
    visualize, image = km.visualize, images[number]
    for i in range(len(km.token_mixing_units(model))):
        save(visualize.plot_token_mixing_units(model, i), output / f"units_{i}.png")
        active = visualize.plot_token_mixing_activations(model, image, i)
        save(active, output / f"activations_{i}.png")
        where = visualize.plot_channel_mixing_activations(model, image, i)
        save(where, output / f"channels_{i}.png")
    save(visualize.plot_features(model, image), output / "features.png")
    explore(model, images, class_names, output)


def main():
    flags = parser(__doc__.split("\n")[0], image_size=48, patch_size=4, depth=4, weight_decay=5.0)
    args = flags.parse_args()
    try:
        model, images, _, class_names = model_and_images(args, build)
        look(model, images, args.image, class_names, args.output)
    except (ValueError, TypeError, OSError) as error:  # a flag that will not do, and why
        raise SystemExit(f"visualize_token_mixing.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nvisualize_token_mixing.py: interrupted") from None
