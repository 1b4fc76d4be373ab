"""The samples in the formats of large data sets are small."""

SAMPLES = ("pubchemqcr_mini", "oc20_mini")


def test_both_stay_below_eight_megabytes(root):
    for name in SAMPLES:
        assert (root / "datasets" / name / "README.md").is_file()
    files = [path for name in SAMPLES for path in (root / "datasets" / name).rglob("*")]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 8e6
