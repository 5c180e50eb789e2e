"""Published recipes for fine-tuning, one row each.

Values that are converted to the units of `Recipe`:

- The learning rates of MAE and of DINOv2's linear probe are per 256 images, and multiplied by the
  batch size / 256. MAE's 5e-4 becomes 2e-3.
- PyTorch's SGD has the weight decay inside the momentum of 0.9, so that it acts ten times.
  `LayerwiseSGD` has it outside. DeiT's 1e-4 becomes 1e-3.
- A random crop of 384 from 448 pixels, or of 480 from 512, becomes a translation by half of the
  difference. The pixels outside the central crop are then repeated border pixels.

Left out, because a `Recipe` cannot represent them: MAE's linear probe (LARS, arXiv 2111.06377),
CLIP's linear probe (logistic regression by L-BFGS, arXiv 2103.00020), and BiT on fewer than 20,000
images (steps at 40, 60 and 80 % of the training). The paper of DINOv2 (arXiv 2304.07193) gives no
values for fine-tuning all weights.
"""

from keras_mixers.data import Augmentation
from keras_mixers.training.recipe import Recipe

CROP = (0.08, 1.0)
CROPPED = Augmentation(crop_scale=CROP, flip=True)
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0}
BIG_VISION = {**SGD, "batch_size": 512, "clip_norm": 1.0}
TRANSFER = (
    "arXiv 2106.10270, big_vision configs/transfer.py, at 384 pixels, with a head of zeros, and the"
    " best of the rates 0.003, 0.01 and 0.03 on validation images for ViT-B/32 of ImageNet-21k"
)
BIT = {
    **SGD,
    "batch_size": 512,
    "learning_rate": 3e-3,
    "warmup_steps": 500,
    "schedule": "staircase",
    "augmentation": Augmentation(flip=True, translation=16 / 480, mixup=0.1),
}
BIT_SOURCE = (
    "arXiv 1912.11370 (BiT-HyperRule), github.com/google-research/big_transfer, bit_hyperrule.py"
    " and bit_pytorch/train.py, at 480 pixels (at 128 for images smaller than 96):"
)
TIMM = {"crop_scale": CROP, "flip": True, "rand_augment": (2, 9)}
MAE = {
    "batch_size": 1024,
    "warmup_epochs": 5,
    "final_learning_rate": 1e-6,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "augmentation": Augmentation(**TIMM, erasing=0.25, mixup=0.8, cutmix=1.0),
}
MAE_SOURCE = "arXiv 2111.06377, github.com/facebookresearch/mae, FINETUNE.md and main_finetune.py:"
CLIP = {
    "batch_size": 2048,
    "final_learning_rate": 1e-6,
    "weight_decay": 0.05,
    "label_smoothing": 0.1,
    "ema_decay": 0.9998,
    "augmentation": Augmentation(**TIMM, erasing=0.25),
}
CLIP_SOURCE = "arXiv 2212.06138, github.com/LightDXY/FT-CLIP, scripts/bash_fine_Openai_CLIP_"

FINETUNING = {
    "augreg fine-tuning Pets": Recipe(
        **BIG_VISION,
        steps=500,
        warmup_steps=100,
        learning_rate=3e-3,
        augmentation=CROPPED,
        source=f"{TRANSFER}: Oxford Pets 93.78 %, Flowers 99.43 %",
    ),
    "augreg fine-tuning CIFAR-100": Recipe(
        **BIG_VISION,
        steps=10_000,
        warmup_steps=500,
        learning_rate=0.01,
        augmentation=Augmentation(flip=True, translation=32 / 384),
        source=f"{TRANSFER}: CIFAR-100 91.35 % (CIFAR-10 98.55 % at 0.003)",
    ),
    "augreg fine-tuning ImageNet": Recipe(
        **BIG_VISION,
        steps=20_000,
        warmup_steps=500,
        learning_rate=0.03,
        augmentation=CROPPED,
        source=f"{TRANSFER}: ImageNet-1k 83.27 %",
    ),
    "BiT fine-tuning medium": Recipe(
        **BIT, steps=10_000, source=f"{BIT_SOURCE} 20,000 to 500,000 images"
    ),
    "BiT fine-tuning large": Recipe(
        **BIT, steps=20_000, source=f"{BIT_SOURCE} 500,000 images and more"
    ),
    "DeiT fine-tuning 384": Recipe(
        epochs=30,
        batch_size=512,
        learning_rate=5e-6,
        warmup_epochs=5,
        final_learning_rate=5e-6,
        weight_decay=1e-8,
        label_smoothing=0.1,
        ema_decay=0.99996,
        augmentation=Augmentation(**TIMM, erasing=0.25, mixup=0.8, cutmix=1.0),
        model_arguments={"stochastic_depth_rate": 0.1},
        source="arXiv 2012.12877, github.com/facebookresearch/deit, README_deit.md (--lr 5e-6"
        " --min-lr 5e-6 --weight-decay 1e-8) and main.py (which repeats each image three times per"
        " epoch): from 224 to 384 pixels, DeiT-B/16 82.89 %",
    ),
    "DeiT fine-tuning CIFAR-10": Recipe(
        epochs=1000,
        batch_size=768,
        optimizer="sgd",
        momentum=0.9,
        learning_rate=0.01,
        warmup_epochs=5,
        final_learning_rate=1e-5,
        weight_decay=1e-3,
        label_smoothing=0.1,
        ema_decay=0.99996,
        augmentation=Augmentation(**TIMM, mixup=0.8, cutmix=1.0),
        source="arXiv 2012.12877, an author's answer for CIFAR-10 and Stanford Cars,"
        " github.com/facebookresearch/deit/issues/45 (all else as in pre-training; timm's SGD has"
        " Nesterov's momentum, this one has not)",
    ),
    "MAE fine-tuning B": Recipe(
        **MAE,
        epochs=100,
        learning_rate=2e-3,
        layer_decay=0.65,
        model_arguments={"stochastic_depth_rate": 0.1, "pool": "gap"},
        source=f"{MAE_SOURCE} ViT-B/16 83.66 %",
    ),
    "MAE fine-tuning L": Recipe(
        **MAE,
        epochs=50,
        learning_rate=4e-3,
        layer_decay=0.75,
        model_arguments={"stochastic_depth_rate": 0.2, "pool": "gap"},
        source=f"{MAE_SOURCE} ViT-L/16 85.95 %",
    ),
    "MAE fine-tuning H": Recipe(
        **MAE,
        epochs=50,
        learning_rate=4e-3,
        layer_decay=0.75,
        model_arguments={"stochastic_depth_rate": 0.3, "pool": "gap"},
        source=f"{MAE_SOURCE} ViT-H/14 86.93 %",
    ),
    "CLIP fine-tuning B": Recipe(
        **CLIP,
        epochs=50,
        learning_rate=6e-4,
        warmup_epochs=10,
        layer_decay=0.6,
        source=f"{CLIP_SOURCE}P16.sh: ViT-B/16 at 224 pixels 85.7 % in the paper's title, 84.7 % in"
        " the README",
    ),
    "CLIP fine-tuning L": Recipe(
        **CLIP,
        epochs=30,
        learning_rate=4e-4,
        warmup_epochs=5,
        layer_decay=0.65,
        source=f"{CLIP_SOURCE}Large_P14.sh: ViT-L/14 at 224 pixels 88.0 %",
    ),
    "DINOv2 linear probe": Recipe(
        **SGD,
        steps=12_500,
        batch_size=1024,
        learning_rate=4e-3,
        frozen_blocks="all",
        augmentation=CROPPED,
        source="arXiv 2304.07193, github.com/facebookresearch/dinov2, dinov2/eval/linear.py, which"
        " trains heads at 13 rates, from 4e-5 to 0.4 for this batch size, on the class tokens of"
        " the last block or the last four, with and without the average of the patches, and keeps"
        " the best on validation images. This rate is the one in the middle",
    ),
    "PEFT LoRA": Recipe(
        epochs=5,
        batch_size=128,
        gradient_accumulation_steps=4,
        learning_rate=5e-3,
        schedule="linear",
        weight_decay=0.0,
        clip_norm=1.0,
        lora_rank=16,
        augmentation=CROPPED,
        source="github.com/huggingface/peft, examples/image_classification/"
        "image_classification_peft_lora.ipynb, with the defaults of transformers' Trainer: ViT-B/16"
        " of ImageNet-21k on 5,000 images of Food-101. There only queries and values have matrices,"
        " with dropout of 0.1",
    ),
}
