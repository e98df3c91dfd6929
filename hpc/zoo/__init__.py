"""The zoo: trained nets as folders that others can use by name, path or URL."""
