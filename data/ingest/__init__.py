"""Real radar in: volumes and gridded sequences, written as an archive in the layout of NJU-CPOL."""
