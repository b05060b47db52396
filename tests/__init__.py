"""Tests that need the whole of Millstream, and what they share."""
