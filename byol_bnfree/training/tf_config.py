"""Detection of the processes in TF_CONFIG, as Kubeflow and Vertex AI set it.

Its form: https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from byol_bnfree.errors import InputError

TRAINING = ("chief", "master", "worker")  # "ps" and "evaluator" do not train


class Task(NamedTuple):
    """One process of a cluster."""

    addresses: list[str]
    """HOST:PORT of every process that trains; the first one coordinates."""
    index: int
    """The place of this process among them."""


def read_tf_config(env: Mapping[str, str]) -> Task | None:
    """Return this process and the others in TF_CONFIG; None if there are no others.

    Raises:
      InputError: if the variable cannot be read, or this process is not to train.
    """
    text = env.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        found = json.loads(text)
        cluster = found.get("cluster") or {}
        groups = {kind: list(cluster.get(kind, ())) for kind in TRAINING}
        addresses = [address for group in groups.values() for address in group]
        # A process alone needs no coordinator.
        if len(addresses) < 2:
            return None
        kind, index = found["task"]["type"], int(found["task"]["index"])
        if kind in TRAINING:
            # JAX numbers all processes in one row. The chief comes first.
            return Task(addresses, addresses.index(groups[kind][index]))
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise InputError(
            f"the environment variable TF_CONFIG is {text[:200]!r}, which cannot be "
            f"read; unset it, or give --coordinator, --num-processes and --process-id."
        ) from error
    raise InputError(
        f"TF_CONFIG makes this process a {kind}, which does not train; start it for "
        f"{', '.join(TRAINING)} only."
    )
