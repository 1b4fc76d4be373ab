import importlib
import lzma
import pickletools

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.io import read

from mlip.data.sources.graphs import GraphLmdbSource
from mlip.data.sources.labels import LabelKeys
from mlip.data.sources.registry import SourceSettings, open_source
from mlip.data.sources.restricted_pickle import graph_fields, loads

SHARDS = (("train", 0), ("train", 1), ("val_id", 0), ("val_ood_both", 0))
ROUNDING = 2e-8  # of eight decimals


@pytest.fixture(scope="module")
def folder(root):
    return root / "datasets" / "oc20_mini"


@pytest.fixture(scope="module")
def chunks(folder):
    """Frames and the columns of their lines, by (split, shard)."""
    found = {}
    for split, index in SHARDS:
        stem = folder / "s2ef" / split / str(index)
        with lzma.open(f"{stem}.txt.xz", "rt") as file:
            lines = [line.rstrip("\n").split(",") for line in file]
        found[split, index] = (read(f"{stem}.extxyz.xz", ":", format="extxyz"), lines)
    return found


@pytest.fixture(scope="module")
def graphs(folder):
    """Path of the LMDB of each shard."""
    return {
        (split, index): folder / "lmdb" / split / f"data.{index:04d}.lmdb"
        for split, index in SHARDS
    }


def globals_of(value):
    """Names that a pickle asks for."""
    text = [argument for _, argument, _ in pickletools.genops(value) if isinstance(argument, str)]
    return set(text)


def test_counts_are_those_of_the_readme(folder, chunks, table):
    rows = table(folder / "README.md")
    for (split, index), (frames, lines) in chunks.items():
        counts = [len({sid for sid, _, _ in lines}), len(frames)]
        assert [int(cell) for cell in rows[f"{split}/{index}"][:2]] == counts
        assert len(frames) == len(lines)


def test_lines_name_the_frames(chunks):
    for frames, lines in chunks.values():
        systems = {}
        for frame, (sid, fid, reference) in zip(frames, lines, strict=True):
            assert sid.startswith("random")
            assert fid.startswith("frame")
            assert np.isfinite(float(reference))
            assert systems.setdefault(sid, (frame.info["system"], reference)) == (
                frame.info["system"],
                reference,
            )


def test_splits_share_no_relaxation_and_the_last_one_no_adsorbate_or_metal(chunks):
    sids = [sid for _, lines in chunks.values() for sid in dict.fromkeys(s for s, _, _ in lines)]
    assert len(sids) == len(set(sids)) == 34

    def parts(split):
        names = [f.info["system"] for (s, _), (fs, _) in chunks.items() if s == split for f in fs]
        return [set(column) for column in zip(*(n[:-5].split("/") for n in names), strict=True)]

    for trained, unseen in zip(parts("train"), parts("val_ood_both"), strict=True):
        assert not trained & unseen
    elements = {
        split: {
            s
            for (name, _), (fs, _) in chunks.items()
            if name == split
            for f in fs
            for s in f.symbols
        }
        for split in ("train", "val_id", "val_ood_both")
    }
    assert elements["train"] >= elements["val_id"] | elements["val_ood_both"]


def test_frames_are_marked_as_emt_and_tagged(chunks):
    for frames, _ in chunks.values():
        for frame in frames:
            assert frame.info["level_of_theory"] == "EMT"
            assert set(frame.get_tags()) == {0, 1, 2}
            fixed = set(frame.constraints[0].index)
            assert fixed == set(np.flatnonzero(frame.get_tags() == 0))
            assert frame.pbc.all()
            raw = frame.get_forces(apply_constraint=False)
            assert abs(raw[sorted(fixed)]).max() > 1e-3
            assert abs(raw.sum(axis=0)).max() < len(frame) * ROUNDING


def test_relaxations_lower_the_energy(chunks):
    for frames, lines in chunks.values():
        energies, largest = {}, {}
        for frame, (sid, _, _) in zip(frames, lines, strict=True):
            energies.setdefault(sid, []).append(frame.get_potential_energy())
            largest[sid] = np.linalg.norm(frame.get_forces(), axis=1).max()
        assert all(found[-1] == min(found) < found[0] for found in energies.values())
        assert max(largest.values()) < 0.031


def test_emt_gives_the_labels(chunks):
    for frames, _ in chunks.values():
        for frame in (frames[0], frames[-1]):
            again = frame.copy()
            again.calc = EMT()
            assert again.get_potential_energy() == pytest.approx(
                frame.get_potential_energy(), abs=ROUNDING
            )
            np.testing.assert_allclose(
                again.get_forces(apply_constraint=False),
                frame.get_forces(apply_constraint=False),
                atol=1e-7,
            )


def test_the_script_makes_the_first_relaxation_again(root, chunks, monkeypatch):
    split = "val_ood_both"
    monkeypatch.syspath_prepend(root / "scripts")
    script = importlib.import_module("make_oc20_mini")
    (chosen,) = (one for one in script.SPLITS if one.name == split)
    again = next(script.relaxations(chosen))
    frames, lines = chunks[split, 0]
    steps = [(sid, fid) for sid, fid, _ in lines if sid == lines[0][0]]
    assert steps == [(again.sid, f"frame{frame.info['step']}") for frame in again.frames]
    assert again.reference == pytest.approx(float(lines[0][2]), abs=1e-6)
    for frame, written in zip(again.frames, frames, strict=False):
        np.testing.assert_allclose(frame.positions, written.positions, atol=1e-4)
        assert frame.get_potential_energy() == pytest.approx(
            written.get_potential_energy(), abs=1e-6
        )


def test_graphs_are_of_both_generations(graphs, entries):
    layouts = {}
    for shard, path in graphs.items():
        found = dict(entries(path))
        names = globals_of(found[b"0"])
        assert "torch_geometric.data.data" in names
        layouts[shard] = (
            "_store" in names,
            "y" in names and "force" in names and "forces" not in names,
            b"length" in found,
            "edge_index" in names and b"cell_offsets" in found[b"0"],
        )
    assert layouts == {
        ("train", 0): (True, True, True, False),
        ("train", 1): (True, False, False, False),
        ("val_id", 0): (False, True, False, True),
        ("val_ood_both", 0): (True, False, True, False),
    }


def test_graphs_hold_the_frames_with_adsorption_energies(graphs, chunks):
    for shard, (frames, lines) in chunks.items():
        source = GraphLmdbSource(graphs[shard])
        assert len(source) == len(frames)
        for index in range(0, len(frames), 7):
            structure, frame, (sid, _, reference) = source[index], frames[index], lines[index]
            energy = frame.get_potential_energy() - float(reference)
            assert structure.energy == pytest.approx(energy, abs=1e-12)
            forces = frame.get_forces(apply_constraint=False)
            np.testing.assert_array_equal(structure.forces, forces.astype(np.float32))
            np.testing.assert_array_equal(structure.positions, np.float32(frame.positions))
            np.testing.assert_array_equal(structure.numbers, frame.numbers)
            np.testing.assert_array_equal(structure.tags, frame.get_tags())
            np.testing.assert_array_equal(structure.fixed, frame.get_tags() == 0)
            assert source.trajectory(index) == sid.removeprefix("random")


def test_initial_structures_with_relaxed_energies(folder, chunks, table, entries):
    """IS2RE: one graph for each relaxation, its first frame with what the last one has."""
    rows = table(folder / "README.md")
    keys = SourceSettings(keys=LabelKeys(energy="y_relaxed", forces=None))
    for split in ("train", "val_id", "val_ood_both"):
        path = folder / "is2re" / "all" / split / "data.lmdb"
        values = [value for _, value in sorted(entries(path), key=lambda item: int(item[0]))]
        frames = {}
        for (name, _), (found, lines) in chunks.items():
            for frame, (sid, _, reference) in zip(found, lines, strict=True):
                if name == split:
                    energy = frame.get_potential_energy() - float(reference)
                    frames.setdefault(sid.removeprefix("random"), []).append((frame, energy))
        source = open_source(path.parent, keys)
        assert (
            len(source)
            == len(values)
            == len(frames)
            == int(rows[f"is2re/all/{split}/data.lmdb"][0])
        )
        for index, ((first, start), *_, (last, end)) in enumerate(frames.values()):
            structure, fields = source[index], graph_fields(loads(values[index], path.name))
            assert source.trajectory(index) == list(frames)[index]
            assert structure.forces is None
            assert structure.energy == pytest.approx(end, abs=1e-12)
            assert fields["y_init"] == pytest.approx(start, abs=1e-12)
            np.testing.assert_array_equal(structure.positions, np.float32(first.positions))
            np.testing.assert_array_equal(fields["pos_relaxed"], np.float32(last.positions))
            np.testing.assert_array_equal(structure.fixed, first.get_tags() == 0)


def test_the_downloaded_form_holds_the_same_frames(folder, chunks):
    for split in ("train", "val_id", "val_ood_both"):
        source = open_source(folder / "s2ef" / split)
        pickled = open_source(folder / "lmdb" / split)
        shards = [frames for (name, _), (frames, _) in chunks.items() if name == split]
        assert len(source) == len(pickled) == sum(map(len, shards))
        assert source.energy_reference == "referenced"
        structures = list(source.stream())
        for index in range(0, len(source), 5):
            one, other = structures[index], pickled[index]
            assert one.energy == pytest.approx(other.energy, abs=1e-9)
            np.testing.assert_allclose(one.forces, other.forces, atol=1e-6)
            np.testing.assert_array_equal(one.fixed, other.fixed)
            np.testing.assert_array_equal(one.tags, other.tags)
            assert source.trajectory(index) == pickled.trajectory(index)
