"""Check forecasts of anybody: scores beside baselines, and the errors found often in this field, by name."""
