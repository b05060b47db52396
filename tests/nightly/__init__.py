"""End-to-end tests whose programs take minutes to build; not part of every run."""
