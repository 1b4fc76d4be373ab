"""ASE calculator, molecular dynamics and relaxation driven by a `Potential`."""
