"""Writes the model card: README.md with the header that the Hub reads."""

import json
from typing import Any

from byol_bnfree.settings.names import STANDARDIZED

CARD = """\
---
license: {licence}
library_name: byol_bnfree
pipeline_tag: image-feature-extraction
tags: [self-supervised-learning, byol, jax, flax, pytorch, {norm}]
{data_line}---

# {name}

An encoder trained without labels by BYOL
([arXiv 2006.07733](https://arxiv.org/abs/2006.07733)) with `byol_bnfree`.
{norm_line}

| | |
|---|---|
| network | {network} of width {width:g}, `{stem}` stem, padding `{padding}` |
| normalization | `{norm}` |
| trained on | {dataset}, {step:,} steps |
| licence of the weights | {licence_words} |
{encoder_line}{source_line}
## Figures

{figures}
{pictures}
## Use it

In JAX: `load_encoder(FOLDER)` of `byol_bnfree`. In PyTorch, where only torch is needed:

```python
from encoder import load_encoder  # the file encoder.py in this folder

features = load_encoder()(images)  # [b c h w], uint8 or floats in [0, 1]
```

Preprocessing: {preprocessing}

{comparisons}| file | what |
|---|---|
| `model.safetensors` | the weights as they were trained, with torchvision's names |
| `encoder.py` | the PyTorch program{standardizes} |
| `config.json` | the network and its preprocessing |
| `run.json`, `summary.json` | all settings and figures of the run |

## Limits

The encoder was trained on one data set, without labels. Its figures are of that set.
It was not checked for other pictures or for fairness between groups of people.
"""
STANDARDIZES = ", which standardizes the kernels when it loads them"
TARGET_LINE = "| encoder | that of the target network, an average over training |\n"
NO_FIGURES = "The run was not evaluated."
NO_TARGET_FIGURES = "The run measured its online encoder only."
NORMS = {
    "bn": "Its BatchNorm layers used the statistics of training batches.",
    "gn_ws": "It uses GroupNorm with Weight Standardization and no batch statistics\n"
    "([arXiv 2010.10241](https://arxiv.org/abs/2010.10241)).",
}


def model_card(
    name: str,
    description: dict[str, Any],
    figures: dict[str, float],
    pictures: list[str],
    comparisons: list[str],
) -> str:
    """Return the text of README.md.

    Args:
      name: name of the model.
      description: a result of `interop.description.describe`.
      figures: results in [0, 1] by name.
      pictures: image files beside the card.
      comparisons: results of the comparisons, one sentence each.
    """
    network, images = description["network"], description["preprocessing"]
    licence = description["licence"] or "unknown"
    known = len(licence.split()) == 1
    dataset = description["dataset"] or "unknown data"
    named = dataset not in ("shapes", "unknown data")
    public = named and not dataset.startswith("folder:")
    rows = [f"| {key} | {100 * value:.2f} % |" for key, value in figures.items()]
    table = "\n".join(["| figure | |", "|---|---|", *rows])
    source = description["source"]
    norm, online = network["norm"], description["encoder"] == "online"
    standardized = norm in STANDARDIZED and network["standardize_conv"]
    return CARD.format(
        name=name,
        licence=licence if known else "other",
        licence_words=licence,
        data_line=f"datasets: [{dataset}]\n" if public else "",
        norm=norm,
        standardizes=STANDARDIZES if standardized else "",
        norm_line=NORMS.get(norm, f"Its normalization is `{norm}`."),
        network=network["name"],
        width=network["width"],
        stem=network["stem"],
        padding=network["padding"],
        dataset=dataset,
        step=description["step"],
        encoder_line="" if online else TARGET_LINE,
        source_line=f"| source | {source} |\n" if source else "",
        figures=table if rows else NO_FIGURES if online else NO_TARGET_FIGURES,
        pictures="".join(f"\n![{p}]({p})\n" for p in pictures),
        preprocessing=f"`{json.dumps(images)}`",
        comparisons="".join(f"Export checked: {line}.\n\n" for line in comparisons),
    )
