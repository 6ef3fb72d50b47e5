"""How good predictions are: metrics, intervals and cross-validation."""
