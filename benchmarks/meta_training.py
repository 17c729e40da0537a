"""Tasks per second of meta-training: batched against a Python loop over tasks, same maths.

One training step of the MAML family (steps on each support, the queries' loss, its gradient)
over the users of ML-1M's `warm` rows, once as one padded batch and once as a loop over users
without padding; losses and gradients are checked to be the same. The Gaussian has no loop to be
compared with: its whole training, sampling and validation included, is timed by epochs, by the
clock and, since other processes may take their share of a machine, by processor time.

    python -m benchmarks.meta_training [--json] [--seed 7] [--threads 2] [--tasks 256]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from metarec_core.config.load import load_config
from metarec_core.episodes.sampling import EpisodeSampler
from metarec_core.episodes.types import Episode, InteractionMatrix, Support, TaskData, ValueScale
from metarec_core.learners.base import FitContext
from metarec_core.learners.gaussian import Gaussian, GaussianConfig
from metarec_core.learners.item_net import ItemTable, start_from_baselines
from metarec_core.learners.losses import list_nll, rating_parts
from metarec_core.learners.maml import Maml, MamlConfig, everything, meta_loss
from metarec_core.learners.maml_net import Fast, InnerTask, MamlNet, Variant, adapt_one
from metarec_core.learners.objective import Parts
from metarec_core.schema import Feedback

DATA = Path("../shared/data/ml-1m")
CPU = torch.device("cpu")
P1 = Path(__file__).parent / "p1.yaml"
SCALE = ValueScale(Feedback.EXPLICIT, 1.0, 5.0, 4.0)
MAX_SUPPORT = MAX_QUERY = 64
TOLERANCE = 1e-3
"""Of a gradient's largest difference to its largest entry, in float32."""
WANTED = 8.0


def movielens(root: Path) -> TaskData:
    """The `warm` rows of ML-1M: users with gender, age and occupation, items with genres."""
    ratings = pl.read_parquet(root / "ratings.parquet").filter(pl.col("melu_state") == "warm")
    users, user = np.unique(ratings["user_id"].to_numpy(), return_inverse=True)
    items, item = np.unique(ratings["item_id"].to_numpy(), return_inverse=True)
    order = np.lexsort((item, user))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user))]).astype(np.int64)
    values = ratings["rating"].to_numpy().astype(np.float32)
    matrix = InteractionMatrix(indptr, item[order].astype(np.int64), values[order])
    of_users = {row[0]: row[1:4] for row in _rows(root / "users.dat")}
    of_items = {row[0]: row[2].split("|") for row in _rows(root / "movies.dat")}
    user_cells = [[f"{i}={cell}" for i, cell in enumerate(of_users[str(key)])] for key in users]
    item_cells = [of_items[str(key)] for key in items]
    return TaskData(matrix, _indicators(user_cells), _indicators(item_cells), SCALE)


def _rows(path: Path) -> Iterator[list[str]]:
    for line in path.read_text(encoding="latin-1").splitlines():
        yield line.split("::")


def _indicators(cells: list[list[str]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    names = {name: at for at, name in enumerate(sorted({cell for row in cells for cell in row}))}
    found = np.zeros((len(cells), len(names)), dtype=np.float32)
    for row, cell in enumerate(cells):
        found[row, [names[name] for name in cell]] = 1.0
    return found


def planted(n_users: int, n_items: int, seed: int) -> TaskData:
    """Random users and items, for a trial run without data."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(13, min(40, n_items), size=n_users)
    items = [np.sort(rng.choice(n_items, count, replace=False)) for count in counts]
    return TaskData(
        InteractionMatrix(
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            np.concatenate(items).astype(np.int64),
            rng.integers(1, 6, size=int(counts.sum())).astype(np.float32),
        ),
        rng.normal(size=(n_users, 3)).astype(np.float32),
        rng.normal(size=(n_items, 4)).astype(np.float32),
        SCALE,
    )


def one_task(episode: Episode, row: int) -> Episode:
    """The task of one user, without padding."""
    support = episode.support
    known, asked = support.mask[row], episode.mask[row]
    alone = slice(row, row + 1)
    return Episode(
        episode.users[alone],
        Support(
            support.items[alone, known],
            support.values[alone, known],
            support.mask[alone, known],
            support.user_features[alone],
        ),
        episode.items[alone, asked],
        episode.values[alone, asked],
        episode.mask[alone, asked],
    )


def steps_of_one(
    net: MamlNet, table: ItemTable, support: Support, config: MamlConfig
) -> tuple[Fast, Fast, Tensor]:
    """Start and end of one user's steps, and the user's embedding, without ``vmap``."""
    start = {name: tensor[0] for name, tensor in net.start(support.user_features).items()}
    task = InnerTask(*(tensor[0] for tensor in net.tasks(table, support)))
    steps, variant = config.inner_steps, config.variant
    end = adapt_one(start, task, net, table, steps=steps, variant=variant, explicit=True)
    return start, end, task.user


def loss_of_one(net: MamlNet, table: ItemTable, task: Episode, config: MamlConfig) -> Parts:
    """What :func:`meta_loss` computes, for one user and without ``vmap``."""
    _, fast, user = steps_of_one(net, table, task.support, config)
    parts = {}
    if config.variant is Variant.REPTILE:
        fast = {name: tensor.detach() for name, tensor in fast.items()}
        start, end, _ = steps_of_one(net, table, everything(task), config)
        distances = [
            0.5 * (start[name] - end[name].detach()).square().sum() / rate.detach()
            for name, rate in net.rates().items()
        ]
        parts["pull"] = (torch.stack(distances).sum(), torch.ones(()))
    layers = {name: tensor for name, tensor in fast.items() if name != "list"}
    items = task.items[0]
    own = torch.func.functional_call(net.layers, layers, (table.taste[items], user))
    variance = table.noise[items] + net.extra_variance(task.support.sizes)
    standard = (table.bias[items] + own).unsqueeze(0)
    logits = (table.appeal + table.exposure @ fast["list"]).unsqueeze(0)
    return {
        **parts,
        **rating_parts(standard, variance.unsqueeze(0), task, net.mu, net.unit),
        "list_nll": list_nll(logits, task, SCALE.relevant_from),
    }


def step(
    net: MamlNet, features: Tensor, episode: Episode, config: MamlConfig, *, loop: bool
) -> float:
    """Gradient of the summed losses of a batch, left in ``net``; returns the loss."""
    net.zero_grad()
    table = net.items(features)
    if loop:
        total = torch.zeros(())
        for row in range(len(episode.users)):
            parts = loss_of_one(net, table, one_task(episode, row), config)
            total = total + _sum(parts)
    else:
        total = _sum(
            meta_loss(
                net, table, episode, config=config, explicit=True, relevant_from=SCALE.relevant_from
            )
        )
    total.backward()  # type: ignore[no-untyped-call]
    return float(total.detach())


def _sum(parts: Parts) -> Tensor:
    return torch.stack([value for value, _ in parts.values()]).sum()


def compare(
    data: TaskData, variant: Variant, *, n_tasks: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Time both on the same batch; refuses figures of unlike gradients."""
    config = MamlConfig(variant=variant, inner_steps=5)
    torch.manual_seed(seed)
    net = Maml(config).build(data.n_items, data.item_features.shape[1], data.user_features.shape[1])
    start_from_baselines(net, data, CPU)
    features = torch.from_numpy(data.item_features)
    sampler = EpisodeSampler(data, max_support=MAX_SUPPORT, max_query=MAX_QUERY, batch_size=n_tasks)
    episode = next(sampler.epoch(np.random.default_rng(seed)))
    run = partial(step, net, features, episode, config)
    results = []
    for loop in (False, True):
        loss = run(loop=loop)
        gradient = {
            name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None
        }
        results.append((loss, gradient))
    (batched_loss, batched), (looped_loss, looped) = results
    assert batched.keys() == looped.keys()
    apart = max(
        float((batched[name] - looped[name]).abs().max() / looped[name].abs().max().clamp_min(1e-3))
        for name in batched
    )
    apart = max(apart, abs(batched_loss - looped_loss) / abs(looped_loss))
    if apart > TOLERANCE:
        raise SystemExit(f"{variant}: batched and looped gradients are {apart:.1e} apart")
    n = len(episode.users)
    fast = n / _quickest(partial(run, loop=False), repeats)
    slow = n / _quickest(partial(run, loop=True), max(1, repeats // 3))
    return {
        "learner": "maml",
        "variant": str(variant),
        "inner_steps": config.inner_steps,
        "batch_tasks": n,
        "tasks_per_second": fast,
        "tasks_per_processor_second": None,
        "loop_tasks_per_second": slow,
        "speed_up": fast / slow,
        "apart": apart,
        "wanted": WANTED,
    }


def _quickest(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the quickest of some runs: other processes only ever add time."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def time_gaussian(data: TaskData, *, batch_tasks: int, epochs: int, seed: int) -> dict[str, Any]:
    """Tasks a second of whole epochs of ``gaussian`` on ratings: sampling, steps, validation.

    Its settings are those that ``benchmarks/p1.yaml`` gives for P1.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(data.n_users)
    held_out = data.n_users // 10
    validation, train = (data.select(np.sort(part)) for part in np.split(order, [held_out]))
    ends: list[tuple[float, float]] = []
    context = FitContext(
        seed=seed,
        device=CPU,
        max_support=MAX_SUPPORT,
        max_query=MAX_QUERY,
        progress=lambda *_: ends.append((time.perf_counter(), time.process_time())),
    )
    settings = getattr(load_config(P1).learners, Gaussian.name)
    assert isinstance(settings, GaussianConfig)
    loop = {"epochs": epochs + 1, "patience": epochs + 1, "batch_tasks": batch_tasks}
    config = settings.model_copy(update={"loop": settings.loop.model_copy(update=loop)})
    Gaussian(config).fit(train, validation, context)
    # The first epoch also warms up threads and caches.
    seconds, processor = np.median(np.diff(ends, axis=0), axis=0)
    return {
        "learner": "gaussian",
        "variant": None,
        "inner_steps": None,
        "batch_tasks": batch_tasks,
        "tasks_per_second": train.n_users / float(seconds),
        "tasks_per_processor_second": train.n_users / float(processor),
        "loop_tasks_per_second": None,
        "speed_up": None,
        "apart": None,
        "wanted": 10_000.0,
    }


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or with ``--json`` one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tasks", type=int, default=256, help="tasks a batch of the family")
    parser.add_argument("--batch", type=int, default=256, help="tasks a batch of the Gaussian")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of ML-1M")
    parser.add_argument("--planted", type=int, help="so many random users instead of ML-1M")
    options = parser.parse_args(arguments)

    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        data = (
            planted(options.planted, 40, options.seed)
            if options.planted
            else movielens(options.data)
        )
        rows = [
            compare(
                data, variant, n_tasks=options.tasks, repeats=options.repeats, seed=options.seed
            )
            for variant in Variant
        ]
        rows.append(
            time_gaussian(
                data, batch_tasks=options.batch, epochs=options.repeats, seed=options.seed
            )
        )
    finally:
        torch.set_num_threads(before)
    dataset = "planted" if options.planted else "ml-1m"
    for row in rows:
        row["dataset"], row["threads"] = dataset, options.threads
    print(f"{'learner':9} {'variant':8} {'batch':>6} {'tasks/s':>9} {'loop':>7} {'times':>6}")
    for row in rows:
        loop = "-" if row["speed_up"] is None else f"{row['loop_tasks_per_second']:.0f}"
        times = "-" if row["speed_up"] is None else f"{row['speed_up']:.1f}"
        print(
            f"{row['learner']:9} {row['variant'] or '-':8} {row['batch_tasks']:6d} "
            f"{row['tasks_per_second']:9.0f} {loop:>7} {times:>6}"
        )
    print(
        f"gaussian: {rows[-1]['tasks_per_processor_second']:.0f} tasks a second of processor time"
    )
    print(f"{dataset}, {data.n_users} users, seed {options.seed}, {options.threads} threads")
    if options.json:
        print(json.dumps({"benchmark": "meta_training", "seed": options.seed, "rows": rows}))


if __name__ == "__main__":
    main()
