"""Read a dataset's own files into the lake."""

from __future__ import annotations

from prefect import task

from metarec_core.ingest.descriptor import DatasetDescriptor, load_descriptor
from metarec_core.ingest.locate import locate
from metarec_core.ingest.read import DESCRIPTOR, fingerprint, ingest_tables
from metarec_core.storage import StageOutput
from tasks.night import Night
from tasks.stage import RETRIED, stage
from tasks.tracking import Context


@task(name="ingest", **RETRIED)
def ingest(night: Night) -> StageOutput:
    """Raw, typed tables of the configured dataset, its unparsable rows set aside."""
    config = night.config
    # The fingerprint covers the descriptor, whatever the name it was found by.
    settings = {"max_unparsable_fraction": config.validation.max_unparsable_fraction}
    with stage(night, "ingest", settings) as running:
        descriptor = load_descriptor(config.dataset.name)
        root = locate(descriptor, config.dataset, night.home)
        output = running.build(
            lambda out, _: ingest_tables(
                descriptor, root, out, validation=config.validation, cleaning=config.cleaning
            ),
            fingerprint=fingerprint(descriptor, root),
        )
        for tracked in (running.tracked, night.tracked):
            tracked.log_dataset(
                output, name=descriptor.name, context=Context.TRAINING, table="interactions.parquet"
            )
        return output


def read_descriptor(raw: StageOutput) -> DatasetDescriptor:
    """The descriptor that the raw tables were read by."""
    return load_descriptor(raw.path / DESCRIPTOR)
