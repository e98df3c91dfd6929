"""Convert radar volumes and gridded sequences to the NJU-CPOL archive layout."""
