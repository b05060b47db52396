"""Routes: they parse requests and shape answers, and decide nothing."""
