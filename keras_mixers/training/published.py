"""Published recipes for training, one row each, and recipes for small datasets.

Three values are converted to the units of `Recipe`:

- RandAugment's magnitude has a maximum of 10 here. torchvision's 12 of 30 becomes 4. big_vision's
  15 exceeds its scale and becomes 10.
- big_vision does not multiply its weight decay of 1e-4 by its learning rate of 1e-3. `Recipe` does,
  so the value becomes 0.1.
- big_vision's warm-up of 10,000 steps is converted to epochs of its 1,268,355 ImageNet images.
"""

import dataclasses

from keras_mixers.data import Augmentation
from keras_mixers.training.choice import Facts, choose
from keras_mixers.training.published_finetuning import FINETUNING
from keras_mixers.training.recipe import Recipe

INCEPTION_CROP = (0.08, 1.0)
BIG_VISION = {
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "clip_norm": 1.0,
}
AUGREG = {
    **BIG_VISION,
    "epochs": 300,
    "batch_size": 4096,
    "loss": "sigmoid",
    "warmup_epochs": 3.2,  # 10,000 steps of 4,096 images; ImageNet-21k has 12.8 million images
    "model_arguments": {"pool": "gap"},
}
CONVMIXER_CIFAR10 = {
    "batch_size": 512,
    "learning_rate": 0.05,
    "schedule": "one_cycle",
    "weight_decay": 0.005,
}
CONVMIXER_CIFAR10_SOURCE = (
    "github.com/locuslab/convmixer-cifar10, train.py --lr-max=0.05 --ra-n=2 --ra-m=12 --wd=0.005"
    " --scale=1.0"
)

RECIPES = {
    "DeiT": Recipe(
        epochs=300,
        batch_size=1024,
        learning_rate=1e-3,  # the paper's 5e-4 is for a batch size of 512
        warmup_epochs=5,
        final_learning_rate=1e-5,
        weight_decay=0.05,
        label_smoothing=0.1,
        ema_decay=0.99996,
        augmentation=Augmentation(
            crop_scale=INCEPTION_CROP,
            flip=True,
            rand_augment=(2, 9),
            erasing=0.25,
            mixup=0.8,
            cutmix=1.0,
        ),
        model_arguments={"stochastic_depth_rate": 0.1},
        source="arXiv 2012.12877, github.com/facebookresearch/deit, main.py (which repeats"
        " each image three times per epoch; `km.data.load` does not): DeiT-S/16 79.86 %, DeiT-B/16"
        " 81.98 %",
    ),
    "big_vision ViT-S/16": Recipe(
        **BIG_VISION,
        epochs=90,
        batch_size=1024,
        warmup_epochs=8.07,
        augmentation=Augmentation(
            crop_scale=INCEPTION_CROP, flip=True, rand_augment=(2, 10), mixup=0.2
        ),
        model_arguments={
            "pool": "gap",
            "position_embedding": "sincos2d",
            "representation_size": 384,
        },
        source="arXiv 2205.01580, big_vision configs/vit_s16_i1k.py: ImageNet-1k 76.5 %",
    ),
    "big_vision Mixer-B/16": Recipe(
        **BIG_VISION,
        epochs=300,
        batch_size=4096,
        warmup_epochs=32.3,
        schedule="linear",
        final_learning_rate=1e-5,
        loss="sigmoid",
        augmentation=Augmentation(
            crop_scale=INCEPTION_CROP, flip=True, rand_augment=(2, 10), mixup=0.5
        ),
        source="arXiv 2105.01601, big_vision configs/mlp_mixer_i1k.py (head bias from -6.9):"
        " ImageNet-1k 76.3 %, 70.5 % in 60 epochs",
    ),
    "augreg none": Recipe(
        **AUGREG,
        augmentation=Augmentation(crop_scale=INCEPTION_CROP, flip=True),
        source="arXiv 2106.10270, big_vision configs/vit_i21k.py: Ti/16 and S/32, ImageNet-21k",
    ),
    "augreg light2": Recipe(
        **AUGREG,
        augmentation=Augmentation(
            crop_scale=INCEPTION_CROP, flip=True, rand_augment=(2, 10), mixup=0.2
        ),
        source="arXiv 2106.10270, big_vision configs/vit_i21k.py: B/32 and B/16, ImageNet-21k",
    ),
    "augreg medium2": Recipe(
        **AUGREG,
        augmentation=Augmentation(
            crop_scale=INCEPTION_CROP, flip=True, rand_augment=(2, 10), mixup=0.5
        ),
        source="arXiv 2106.10270, big_vision configs/vit_i21k.py: L/16, ImageNet-21k",
    ),
    "ConvMixer ImageNet": Recipe(
        epochs=150,
        batch_size=640,
        learning_rate=0.01,
        warmup_epochs=60,
        schedule="one_cycle",
        weight_decay=2e-5,
        label_smoothing=0.1,
        epsilon=1e-3,
        clip_norm=1.0,
        augmentation=Augmentation(
            crop_scale=INCEPTION_CROP,
            flip=True,
            rand_augment=(2, 9),
            erasing=0.25,
            mixup=0.5,
            cutmix=0.5,
        ),
        source="arXiv 2201.09792, github.com/locuslab/convmixer, README, with timm's defaults (the"
        " shape of the schedule is the one for CIFAR-10): 1536/20 81.37 %; 768/32 in 300 epochs",
    ),
    "ConvMixer CIFAR-10": Recipe(
        **CONVMIXER_CIFAR10,
        epochs=25,
        warmup_epochs=10,
        augmentation=Augmentation(flip=True, rand_augment=(2, 4)),
        source=f"{CONVMIXER_CIFAR10_SOURCE} --jitter=0 --reprob=0: 256/8-k5-p2 92.60 %",
    ),
    "ConvMixer CIFAR-10 100 epochs": Recipe(
        **CONVMIXER_CIFAR10,
        epochs=100,
        warmup_epochs=40,
        augmentation=Augmentation(flip=True, rand_augment=(2, 4), erasing=0.2),
        source=f"{CONVMIXER_CIFAR10_SOURCE} --jitter=0.2 --reprob=0.2 (the colour jitter"
        " is left out): 256/8-k5-p2 above 94 %",
    ),
    "small": Recipe(
        epochs=80,
        learning_rate=2e-3,
        warmup_epochs=5,
        weight_decay=0.05,
        clip_norm=1.0,
        augmentation=Augmentation(translation=0.1, rand_augment=(1, 3)),
        source="this package, for a thousand small images that must not be mirrored, like digits",
    ),
    "small natural": Recipe(
        epochs=100,
        learning_rate=1e-3,
        warmup_epochs=5,
        weight_decay=0.05,
        label_smoothing=0.1,
        clip_norm=1.0,
        augmentation=Augmentation(flip=True, translation=0.125, rand_augment=(2, 4)),
        source="this package, for tens of thousands of small photos, like CIFAR-10: fashion_mnist"
        " 91.7 % with a ConvMixer of width 96, depth 4 and patches of 2 pixels in 28 epochs; 89.6 %"
        " with a ViT of width 96, depth 4 and patches of 4 pixels in 30",
    ),
}
# A ViT with two classes, as `Recipe.for_finetuning` reads it.
SMALL_VIT = Facts(5_500_000, 192, 2, has_head=True, has_dense_blocks=True, has_batch_norm=False)
CHOSEN = {
    f"fine-tuning {number:,} images": Recipe(**choose(SMALL_VIT, number))
    for number in (100, 1_000, 10_000)
}


def recipes() -> dict[str, Recipe]:
    """Return published recipes, and recipes for small datasets, by name, in a new dict.

    Those for fine-tuning have "fine-tuning", "linear probe" or "LoRA" in their names.
    `Recipe.for_finetuning` chooses one for a model and a number of images.

    Example:
        >>> recipes()["DeiT"].learning_rate
        0.001
        >>> [name for name in recipes() if name.startswith("MAE")]
        ['MAE fine-tuning B', 'MAE fine-tuning L', 'MAE fine-tuning H']
    """
    return {
        name: dataclasses.replace(recipe)
        for name, recipe in (RECIPES | FINETUNING | CHOSEN).items()
    }
