"""What the server decides: who may run now, how long, and what an outcome means."""
