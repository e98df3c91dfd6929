"""Score rain estimates at gauges, with the error of the gauges themselves."""
