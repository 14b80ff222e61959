"""Each door, asked by the programs that its protocol's users run, as they are."""
