"""How the amortised network begins from one that was fitted on another dataset."""

from __future__ import annotations

import torch

from metarec_core.episodes.types import TaskData
from metarec_core.errors import ModelError
from metarec_core.learners.amortised_net import AmortisedNet
from metarec_core.learners.amortised_training import content_scale, popularity
from metarec_core.learners.fading import Fading, liked_counts
from metarec_core.learners.transfer import Start

_WHOLE = (
    "popularity",
    "new_appeal",
    "mirror",
    "alone",
    "disliked",
    "size.",
    "inner.",
    "outer.",
    "log_spread.",
)
"""What speaks of no feature and no item: the reader, its prior, and the weight of popularity."""


def require_same_shape(net: AmortisedNet, source: AmortisedNet) -> None:
    """Refuse a source of other widths or depth.

    Raises:
        ModelError: If they differ.
    """
    shapes = [
        {"dim": one.sizes.dim, "hidden": one.sizes.hidden, "layers": one.sizes.layers}
        for one in (net, source)
    ]
    if shapes[0] != shapes[1]:
        raise ModelError(
            "start of the amortised network",
            found=f"a source with {shapes[1]}",
            wanted=f"{shapes[0]}",
            next_step="fit the source with the same dim, hidden and layers",
        )


def begin(
    net: AmortisedNet,
    source: AmortisedNet | None,
    start: Start,
    data: TaskData,
    fading: Fading | None = None,
) -> None:
    """Copy into ``net``, which :func:`describe` has told of ``data``, what ``source`` knows.

    - The reader, its prior and the weight of popularity are copied whole.
    - ``C``, ``C'`` and ``a'`` are copied column by column where a feature and its value are
      shared; a column's unit may differ between datasets, so that ``C_s x_s = C_t x_t`` asks for
      ``C_t = C_s unit_s / unit_t``. Other columns stay as they were drawn, which is near zero;
      those of users, ``U``, start at zero.
    - No item is new: what none of the target's users liked is known for that.
    - Items of both datasets get their id parts, and in their popularity, which is
      ``log((liked + 1 / 2 + m p_i) n / (n + m))`` with ``n`` target users, the share ``p_i`` of
      source users who liked them counts as ``m`` users. Other id parts start at zero: such
      an item is known by its content.

    Args:
        net: The network to begin; changed in place.
        source: The fitted one; None: there is none, and only the catalogue is known.
        start: What is shared.
        data: The target's training tasks.
        fading: How the target users' choices fade; None: none does.

    Raises:
        ModelError: If the networks have other widths or depth.
    """
    if source is None or start.knowledge is None:
        if net.sizes.id_items:
            _popularity(net, start, data, fading)
        return
    require_same_shape(net, source)
    with torch.no_grad():
        own, known = dict(net.named_parameters()), dict(source.named_parameters())
        for name, tensor in own.items():
            if name.startswith(_WHOLE):
                tensor.copy_(known[name])
        columns = start.item_columns
        theirs, ours = content_scale(start.knowledge.data), content_scale(data)
        ratio = theirs[columns.source] / ours[columns.target]
        for name in ("content_keys", "content_values", "content_appeal"):
            own[name][..., columns.target] = known[name][..., columns.source] * ratio
        users = start.user_columns
        # A reader that was taught by others is led astray by columns drawn at random.
        own["user"].zero_()
        own["user"][:, users.target] = known["user"][:, users.source]
        if net.sizes.id_items and source.sizes.id_items:
            for name in ("id_keys", "id_values", "id_appeal"):
                # Multiplied with preferences as large as taught ones, chance would be noise.
                own[name].zero_()
                own[name][start.items.target] = known[name][start.items.source]
            _popularity(net, start, data, fading)


def _popularity(net: AmortisedNet, start: Start, data: TaskData, fading: Fading | None) -> None:
    """Tell the network how popular items are in both datasets, and that none is new.

    Where users are few, most items have not been met. The source's guess for a new item is that
    it is as popular as any; that none of ``n`` users liked it says more.
    """
    counts = popularity(data, fading) + 0.5
    if start.knowledge is not None:
        source, worth = start.knowledge.data, start.popularity_users
        share = liked_counts(source) / source.n_users
        both = counts[start.items.target] + worth * share[start.items.source]
        # As many as the target's own users alone would be: items of the target alone must not
        # fall behind because fewer users were asked about them.
        counts[start.items.target] = both * data.n_users / (data.n_users + worth)
    net.met.fill_(1.0)
    log_share = counts.log()
    net.log_share.copy_(log_share - log_share.mean())
