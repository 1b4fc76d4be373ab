"""`mlip data download`: public data sets, resumed and verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlip.cli.console import console, pairs_table
from mlip.cli.schema_data import DataDownloadConfig

if TYPE_CHECKING:
    from mlip.data.addresses import RemoteDataset


def run(settings: DataDownloadConfig) -> None:
    """Download what is missing, verify and unpack it; without a name, list what there is."""
    from mlip.data.addresses import choose_files, files_of_listing, find_dataset, read_addresses
    from mlip.data.download import fetch_text

    addresses = read_addresses(settings.addresses)
    if settings.name is None:
        rows = {name: dataset.about for name, dataset in addresses.items()}
        console().print(pairs_table("Data sets, fetched with name=NAME", rows))
        return
    dataset = find_dataset(addresses, settings.name)
    if dataset.listing is not None:
        listed = files_of_listing(fetch_text(dataset.listing), dataset.listing)
        dataset = dataset.model_copy(update={"files": listed})
    folder = settings.output or Path(settings.name)
    for name in choose_files(dataset, settings.files):
        _fetch(dataset, name, folder)


def _fetch(dataset: RemoteDataset, name: str, folder: Path) -> None:
    from mlip.data.download import RECORD, download, unpack
    from mlip.progress import StepProgress

    file, target = dataset.files[name], folder / name
    with StepProgress(f"{name}, MiB", 1, 0, console()) as bar:

        def report(done: int, total: int | None) -> None:
            bar.resize(max((total or done) >> 20, 1))
            bar.update(done >> 20, "")

        found = download(dataset.address(name), target, file, report=report)
    how = {
        "": f"its checksum is not known: {found.sha256[:12]}… is recorded in {RECORD}, and "
        "compared from now on",
        "record": f"compared with the checksum in {RECORD}",
    }.get(found.verified, f"compared with the publisher's {found.verified}")
    style = None if found.verified else "yellow"
    console().print(f"{found.path}: {how}", style=style, markup=False)
    if file.unpack:
        names = ", ".join(str(folder / top) for top in unpack(found.path, target.parent))
        console().print(f"unpacked to {names}", markup=False)
