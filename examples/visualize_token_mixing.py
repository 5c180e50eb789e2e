"""Visualize token mixing: train an MLP-Mixer, and draw the hidden units of all its blocks.

    python examples/visualize_token_mixing.py                    # the digits data set
    python examples/visualize_token_mixing.py --dataset cifar10  # a TFDS name or a folder
    python examples/visualize_token_mixing.py --model out/model.keras    # a trained model

Each hidden unit has one weight for every patch, so its weights form a picture. Strong weight decay
removes what remains of the random initialization and is not needed. On 2 CPU cores the script takes
three minutes. It writes these files into the output folder:

    units_0.png, ...          the hidden units of each block
    activations_0.png, ...    their activations in each channel, for one image
    channels_0.png, ...       where the hidden units of the channel mixing are active
    features.png              the features of the last block as colours
    explorer.html             an interactive page with 8 images
    model.keras, history.png  the trained model and its learning curves
"""

from command_line import start, visualization_parser


def parse_arguments():
    return visualization_parser(
        __doc__.split("\n")[0], image_size=48, patch_size=4, depth=4, weight_decay=5.0
    ).parse_args()


if __name__ == "__main__":
    start(parse_arguments)

from visualize_attention import explore, model_and_images, save

import keras_mixers as km
from keras_mixers.commands.folders import locked


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


def draw_all(model, images, index, class_names, output):
    """Write the figures of each block for one image, and the page for eight images."""
    visualize, image = km.visualize, images[index]
    for i in range(len(km.token_mixing_units(model))):
        save(visualize.plot_token_mixing_units(model, i), output / f"units_{i}.png")
        activations = visualize.plot_token_mixing_activations(model, image, i)
        save(activations, output / f"activations_{i}.png")
        channels = visualize.plot_channel_mixing_activations(model, image, i)
        save(channels, output / f"channels_{i}.png")
    save(visualize.plot_features(model, image), output / "features.png")
    explore(model, images, class_names, output)


def main():
    args = parse_arguments()
    try:
        with locked(args.output):
            model, images, _, class_names = model_and_images(args, build)
            draw_all(model, images, args.image, class_names, args.output)
    except (ValueError, TypeError, OSError) as error:  # an invalid flag; the message names it
        raise SystemExit(f"visualize_token_mixing.py: {error}") from None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nvisualize_token_mixing.py: interrupted") from None
